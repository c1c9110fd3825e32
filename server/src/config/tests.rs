//! How the sources of the settings are merged.

use super::*;
use crate::listener::TlsFiles;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("muster.toml");
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

#[test]
fn a_flag_overrides_the_file_and_the_file_overrides_the_default() {
    let (_folder, path) = file("listen = \"127.0.0.1:1\"\nlog = \"debug\"");
    let settings = PartialConfig { listen: Some("127.0.0.1:2".into()), ..PartialConfig::default() };
    let config = ConfigSources { config: Some(path), settings }.resolve().expect("valid");
    assert_eq!((config.listen.as_str(), config.log.as_str()), ("127.0.0.1:2", "debug"));
    assert_eq!(config.settings.heartbeat_interval_ms, 30_000);
}

#[test]
fn a_certificate_without_a_key_is_refused_and_so_is_a_key_without_a_certificate() {
    let (_folder, path) = file("tls_cert = \"tls.crt\"");
    let resolve = |settings| ConfigSources { config: Some(path.clone()), settings }.resolve();
    let error = resolve(PartialConfig::default()).expect_err("half a pair");
    assert!(error.to_string().contains("`tls_key`"), "{error}");
    let key = PartialConfig { tls_key: Some("tls.key".into()), ..PartialConfig::default() };
    let config = resolve(key).expect("a pair");
    let pair = TlsFiles { certificate: "tls.crt".into(), key: "tls.key".into() };
    assert_eq!(config.tls, TlsConfig::Files(pair));
}

#[test]
fn an_unknown_setting_in_the_file_is_refused_by_name() {
    let (_folder, path) = file("lisen = \"127.0.0.1:1\"");
    let error = ConfigSources { config: Some(path), settings: PartialConfig::default() }
        .resolve()
        .expect_err("unknown");
    let text = muster_protocol::error_chain(&error);
    assert!(text.contains("lisen"), "{text}");
}

#[test]
fn a_certificate_comes_from_files_or_from_the_server_and_never_from_both() {
    let resolve = |tls: &str, names: &[&str], files: bool| {
        let path = |name: &str| files.then(|| name.into());
        let settings = PartialConfig {
            tls: (!tls.is_empty()).then(|| tls.to_owned()),
            tls_names: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            tls_cert: path("tls.crt"),
            tls_key: path("tls.key"),
            ..PartialConfig::default()
        };
        ConfigSources { config: None, settings }.resolve().map(|config| config.tls)
    };
    assert_eq!(resolve("", &[], false).expect("none"), TlsConfig::Off);
    assert_eq!(resolve("auto", &[], false).expect("issued"), TlsConfig::Auto(vec![]));
    let TlsConfig::Auto(names) = resolve("auto", &["A.example", "10.0.0.5"], false).expect("named")
    else {
        panic!("not issued")
    };
    assert_eq!(names.len(), 2);
    for (tls, names, files, setting) in [
        ("auto", &[][..], true, "`tls`"),
        ("off", &[], true, "`tls`"),
        ("on", &[], false, "`tls`"),
        ("", &["a.example"], false, "`tls_names`"),
        ("auto", &["a.example:8443"], false, "`tls_names`"),
    ] {
        let error = resolve(tls, names, files).expect_err(setting).to_string();
        assert!(error.contains(setting), "{error}");
    }
}
