//! An agent that is shown other authorities: one that its own has signed, and others.

use muster_protocol::frame::AuthorityNotice;
use uuid::Uuid;

use super::*;

// Self-signed authorities, all valid until 2126.
const OLD: &str = "MIIBgzCCASmgAwIBAgIUfajFGYJHqfvsZrddlssKh8MaW1owCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDb2xkMCAXDT\
    I2MTEyNDAyMDM0N1oYDzIxMjYxMDMxMDIwMzQ3WjAOMQwwCgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMB\
    BwNCAASr7/caFDhFbp2MJle44mcaL+wuqVU+o7pwxHYS1c0V6BbgxhLq6AlmiffQCuBqtS7izi9pzt0NFkQPp36F5I\
    tIo2MwYTAdBgNVHQ4EFgQUJsvobiEyPozQ3ZVfX50cWaX9V2owHwYDVR0jBBgwFoAUJsvobiEyPozQ3ZVfX50cWaX9\
    V2owDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAgQwCgYIKoZIzj0EAwIDSAAwRQIhAOOLMFL3QbXMxufvmZ\
    BZINByeAzdwssanLN5T5SH4jNjAiBIPfrLUCZF1x3FbM6lSFxMPF6u4zDJG1xFuEN0Z9YQFw==";
const NEW: &str = "MIIBgzCCASmgAwIBAgIUMxto/PHF4KDQHFEgmAcMQo3zwmMwCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDbmV3MCAXDT\
    I2MTEyNDAyMDM0N1oYDzIxMjYxMDMxMDIwMzQ3WjAOMQwwCgYDVQQDDANuZXcwWTATBgcqhkjOPQIBBggqhkjOPQMB\
    BwNCAAT+8IkdaXXZN47rSC2Jvgs2N8NoMe6eFl6vLbjyahoSXJQdtzgR36BbZD1jFT6VTlxYe5fgqbj8LcKOwPYuK5\
    Qio2MwYTAdBgNVHQ4EFgQUIX9xBLOMBnG0RehIwgMy2uuRcGYwHwYDVR0jBBgwFoAUIX9xBLOMBnG0RehIwgMy2uuR\
    cGYwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAgQwCgYIKoZIzj0EAwIDSAAwRQIhAKfXtirm0D2DVG0hS4\
    lFxOEvKkIBSYxcu/mdn8S6fmvnAiAen3i2+xjSiLKRSLFh7bhTmtXwlT2Xi4joQAceaX68YA==";
const FOREIGN: &str = "MIIBizCCATGgAwIBAgIUbGmqnuuz+tgj9STZQQT8yAVgtE0wCgYIKoZIzj0EAwIwEjEQMA4GA1UEAwwHZm9yZWlnbj\
    AgFw0yNjExMjQwMjAzNDdaGA8yMTI2MTAzMTAyMDM0N1owEjEQMA4GA1UEAwwHZm9yZWlnbjBZMBMGByqGSM49AgEG\
    CCqGSM49AwEHA0IABB+kWWtW1TN9snM1T85p8tHS3NJ8pbZ6eDUQqq2j3clDTk3FN/wxX3C3Hg5AFS8CZa/dfDiMs/\
    zI3CGw2RzoqnCjYzBhMB0GA1UdDgQWBBQEVwnn1Uk8JnKs4TrGJgPYO2S9TzAfBgNVHSMEGDAWgBQEVwnn1Uk8JnKs\
    4TrGJgPYO2S9TzAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwICBDAKBggqhkjOPQQDAgNIADBFAiBQth6ygj\
    swFTrji7o403uz0Yr/C3Kmcv7e1CxNp1NeyAIhAORUR2GNN2dufQXnCiBFup6b7MS/7y0QYRBbRrxt4+bF";
/// The key of the new authority, signed by the old one, and by the foreign one.
const SIGNED: &str = "MIIBcTCCARagAwIBAgIBBzAKBggqhkjOPQQDAjAOMQwwCgYDVQQDDANvbGQwIBcNMjYxMTI0MDIwMzQ3WhgPMjEyNj\
    EwMzEwMjAzNDdaMA4xDDAKBgNVBAMMA25ldzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABP7wiR1pddk3jutILYm+\
    CzY3w2gx7p4WXq8tuPJqGhJclB23OBHfoFtkPWMVPpVOXFh7l+CpuPwtwo7A9i4rlCKjYzBhMA8GA1UdEwEB/wQFMA\
    MBAf8wDgYDVR0PAQH/BAQDAgIEMB0GA1UdDgQWBBQhf3EEs4wGcbRF6EjCAzLa65FwZjAfBgNVHSMEGDAWgBQmy+hu\
    ITI+jNDdlV9fnRxZpf1XajAKBggqhkjOPQQDAgNJADBGAiEAn9CvSXlsarn0VsDmeftAlB38Mj2cLDLSVjuu7VetgC\
    ECIQCqeD3SPz+fUIC2SFflxTSOUdRdejBGVKLV9RZ88Jpgeg==";
const SIGNED_BY_FOREIGN: &str = "MIIBdDCCARqgAwIBAgIBBzAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdmb3JlaWduMCAXDTI2MTEyNDAyMDM0N1oYDz\
    IxMjYxMDMxMDIwMzQ3WjAOMQwwCgYDVQQDDANuZXcwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT+8IkdaXXZN47r\
    SC2Jvgs2N8NoMe6eFl6vLbjyahoSXJQdtzgR36BbZD1jFT6VTlxYe5fgqbj8LcKOwPYuK5Qio2MwYTAPBgNVHRMBAf\
    8EBTADAQH/MA4GA1UdDwEB/wQEAwICBDAdBgNVHQ4EFgQUIX9xBLOMBnG0RehIwgMy2uuRcGYwHwYDVR0jBBgwFoAU\
    BFcJ59VJPCZyrOE6xiYD2DtkvU8wCgYIKoZIzj0EAwIDSAAwRQIgJ6eh4ybUckvPNHr3Yv4kNxIHnMm40KNmN/mzfj\
    YXetgCIQClJ/oYyuXbsncc50jpXdR/FLaWFkk3CV2qtGTdnTjJsQ==";
/// A certificate of a server, issued by the new authority.
const OF_SERVER: &str = "MIIBizCCATGgAwIBAgIBCDAKBggqhkjOPQQDAjAOMQwwCgYDVQQDDANuZXcwIBcNMjYxMTI0MDIwMzQ3WhgPMjEyNj\
    EwMzEwMjAzNDdaMBExDzANBgNVBAMMBnNlcnZlcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBy2qYqhA/00UQ4V\
    HXc7HADDwsGLKhdQM1SXfJtC9aIJZ9tW8KwNGo6zc56EUnSdOQJmyIbjsONMxFXYBWKtrKCjezB5MAwGA1UdEwEB/w\
    QCMAAwEwYDVR0lBAwwCgYIKwYBBQUHAwEwFAYDVR0RBA0wC4IJbG9jYWxob3N0MB0GA1UdDgQWBBSvgZkL+zmMygOw\
    /I7t0XJjVmomxTAfBgNVHSMEGDAWgBQhf3EEs4wGcbRF6EjCAzLa65FwZjAKBggqhkjOPQQDAgNIADBFAiA2BEikiP\
    nXjH+ixN0S6TujU1nhjk6yv8pi9E5xueXDUAIhAJqJzbxcgx1ghnY8rHL6wuHjATbi7d8gwsuwsXQl7U4O";

fn pem(body: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// An agent whose CA file has the old authority.
fn trusting_old(folder: &Path) -> Authorities {
    let path = folder.join("ca.pem");
    std::fs::write(&path, pem(OLD)).expect("written");
    Authorities::read(&path).expect("one authority").kept_in(folder)
}

fn notice(certificate: &str, proof: &[&str], retired: &[&str]) -> AuthorityNotice {
    let hash = |body: &&str| fingerprint(&decode(body).expect("a certificate"));
    AuthorityNotice {
        id: Uuid::new_v4(),
        certificate: certificate.into(),
        proof: proof.iter().map(|text| (*text).to_owned()).collect(),
        retired: retired.iter().map(hash).collect(),
    }
}

#[test]
fn agent_follows_only_to_an_authority_that_a_trusted_one_has_signed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let authorities = trusting_old(folder.path());
    let before = authorities.trusted();
    for (certificate, proof) in [
        (NEW, &[][..]),
        (NEW, &[OF_SERVER]),
        (NEW, &[OF_SERVER, SIGNED_BY_FOREIGN]),
        // A proof of the new authority for another one.
        (FOREIGN, &[OF_SERVER, SIGNED]),
        (FOREIGN, &[OF_SERVER, SIGNED_BY_FOREIGN]),
        // What is signed is not what signs the server's certificates.
        (NEW, &[SIGNED, OF_SERVER]),
        (NEW, &[OF_SERVER, NEW]),
        (NEW, &[OF_SERVER, SIGNED, SIGNED]),
        ("AAAA", &[OF_SERVER, SIGNED]),
    ] {
        let refused = authorities.follow(&notice(certificate, proof, &[]));
        assert!(refused.is_err(), "{certificate} {proof:?}");
        assert_eq!(authorities.trusted(), before);
    }
    assert_eq!(authorities.notice_id(), None);

    let announced = notice(NEW, &[OF_SERVER, SIGNED], &[]);
    authorities.follow(&announced).expect("the new authority");
    assert_eq!(authorities.notice_id(), Some(announced.id));
    assert_eq!(authorities.trusted().len(), 2);
    // Another process of the agent trusts it too.
    assert_eq!(trusting_old(folder.path()).trusted().len(), 2);
}

#[test]
fn retired_authority_counts_no_longer_even_if_the_ca_file_has_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let authorities = trusting_old(folder.path());
    authorities.follow(&notice(NEW, &[OF_SERVER, SIGNED], &[])).expect("the new authority");
    authorities.follow(&notice(NEW, &[], &[OLD])).expect("the retirement");
    let new = decode(NEW).expect("a certificate");
    assert_eq!(authorities.trusted(), std::slice::from_ref(&new));
    assert_eq!(trusting_old(folder.path()).reload().trusted(), [new]);
    // It proves nothing any more.
    let back = notice(OLD, &[], &[]);
    assert!(matches!(authorities.follow(&back), Err(NoticeError::Unproven)));
    let aborted = notice(FOREIGN, &[OF_SERVER, SIGNED], &[NEW]);
    assert!(authorities.follow(&aborted).is_err());
}

#[test]
fn damaged_record_of_authorities_counts_as_none() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let authorities = trusting_old(folder.path());
    authorities.follow(&notice(NEW, &[OF_SERVER, SIGNED], &[])).expect("the new authority");
    let path = StateDir::at(folder.path()).authorities();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&path).expect("the record").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(&path, "{}").expect("damaged");
    assert_eq!(authorities.trusted().len(), 1);
    assert_eq!(authorities.notice_id(), None);
}

#[test]
fn a_ca_file_without_a_usable_certificate_is_rejected_with_a_hint() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ca.pem");
    let refusal = || Authorities::read(&path).expect_err("refused").to_string();
    assert!(refusal().contains("MUSTER_CA_FILE"), "{}", refusal());
    for empty in
        ["", "no certificate", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    {
        std::fs::write(&path, empty).expect("written");
        assert!(refusal().contains("contains no certificate"), "{}", refusal());
    }
    let pem =
        |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    for damaged in [pem("AAAA"), pem("***"), "-----BEGIN CERTIFICATE-----\nAAAA\n".into()] {
        std::fs::write(&path, damaged).expect("written");
        assert!(
            refusal().contains("certificate 1 in the CA file") && refusal().contains("is damaged"),
            "{}",
            refusal()
        );
    }
}

#[test]
fn agent_without_a_ca_file_follows_its_server_nowhere() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let authorities = Authorities::default().kept_in(folder.path());
    let notice = AuthorityNotice {
        id: Uuid::nil(),
        certificate: String::new(),
        proof: Vec::new(),
        retired: Vec::new(),
    };
    assert!(matches!(authorities.follow(&notice), Err(NoticeError::NotConfigured)));
    assert!(!authorities.is_managed() && authorities.notice_id().is_none());
}
