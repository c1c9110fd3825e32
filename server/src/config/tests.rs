//! How the sources of the settings are merged.

use super::*;

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
    assert_eq!(config.tls, Some(pair));
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
