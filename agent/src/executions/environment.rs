//! The environment variables that a child inherits: a fixed list of names and nothing else.

use std::ffi::OsString;

use crate::platform::Account;

/// The `PATH` of every execution, on every host.
pub const FIXED_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const INHERITED: [&str; 7] = ["HOME", "LANG", "LANGUAGE", "LOGNAME", "TMPDIR", "TZ", "USER"];
/// Set in every process of an execution, so that escaped processes can be found.
pub const ENV_MARKER: &str = "MUSTER_COMMAND_ID";

/// The variables that describe the user of a child.
pub fn for_account(account: &Account) -> [(&'static str, OsString); 4] {
    [
        ("HOME", account.home.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", account.shell.clone().into()),
        ("USER", account.name.clone().into()),
    ]
}

/// The host's settings of where packages come from, for the installation of what scripts need. Only the
/// agent's own environment sets them.
const PACKAGE_SETTINGS: [&str; 36] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "NPM_CONFIG_CAFILE",
    "NPM_CONFIG_IGNORE_SCRIPTS",
    "NPM_CONFIG_OFFLINE",
    "NPM_CONFIG_REGISTRY",
    "NPM_CONFIG_STRICT_SSL",
    "NPM_CONFIG_USERCONFIG",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_ONLY_BINARY",
    "PIP_PROXY",
    "PIP_REQUIRE_HASHES",
    "PIP_TIMEOUT",
    "PIP_TRUSTED_HOST",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_NO_INDEX",
    "all_proxy",
    "https_proxy",
    "no_proxy",
];

/// The variables of [`PACKAGE_SETTINGS`] that are set.
pub fn package_settings() -> impl Iterator<Item = (OsString, OsString)> {
    PACKAGE_SETTINGS
        .into_iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
}

/// The variables that are passed from the agent to the shim and from the shim to the child.
pub fn allowed() -> impl Iterator<Item = (OsString, OsString)> {
    let inherited = std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
    });
    inherited.chain([(OsString::from("PATH"), OsString::from(FIXED_PATH))])
}
