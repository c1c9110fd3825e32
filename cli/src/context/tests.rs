use super::*;

fn context(server: &str) -> Context {
    Context {
        server: Url::parse(server).unwrap(),
        api_key: "mst_live_stored".into(),
        renewal: None,
        insecure: false,
        ca_file: Some("/etc/ssl/own.pem".into()),
    }
}

fn overrides(server: &str) -> Overrides {
    Overrides { server: Some(server.into()), ..Overrides::default() }
}

#[test]
fn stored_context_is_read_back_and_readable_by_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/muster/config.toml");
    store(&path, &context("https://one.example")).unwrap();
    store(&path, &context("https://two.example")).unwrap();
    let read = resolve(Overrides::default(), Some(&path)).unwrap();
    assert_eq!(read.server.as_str(), "https://two.example/");
    assert_eq!(read.api_key.expose_secret(), "mst_live_stored");
    assert_eq!(read.ca_file, Some("/etc/ssl/own.pem".into()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
}

#[test]
fn stored_key_is_not_sent_to_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    store(&path, &context("https://one.example")).unwrap();
    let error = resolve(overrides("https://other.example"), Some(&path)).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().starts_with("no API key is stored for https://other.example/;"),
        "{error}"
    );
    assert!(resolve(overrides("https://one.example/"), Some(&path)).is_ok());

    let mut with_key = overrides("https://other.example");
    with_key.api_key = Some("mst_live_other".into());
    let read = resolve(with_key, Some(&path)).unwrap();
    assert_eq!(read.api_key.expose_secret(), "mst_live_other");
    assert_eq!(read.ca_file, None, "another server's authority is not trusted here");
}

#[test]
fn missing_server_error_names_the_login_command() {
    let error = resolve(Overrides::default(), None).unwrap_err();
    assert!(error.to_string().contains("muster login --server URL"));
}

#[test]
fn plain_http_to_another_host_needs_insecure() {
    for fine in ["http://localhost:8080", "http://127.0.0.2", "http://[::1]:1", "https://m.example"]
    {
        assert!(check_server(fine, false).is_ok(), "{fine}");
    }
    for refused in ["http://m.example", "http://10.0.0.1", "http://localhost.evil.example"] {
        assert!(check_server(refused, false).is_err(), "{refused}");
        assert!(check_server(refused, true).is_ok(), "{refused}");
    }
    for nonsense in ["m.example", "ftp://m.example", "https://u:p@m.example", ""] {
        assert!(check_server(nonsense, true).is_err(), "{nonsense}");
    }
}

#[test]
fn invalid_file_is_refused_without_quoting_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, "api_key = mst_live_secret").unwrap();
    let error = resolve(Overrides::default(), Some(&path)).unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}
