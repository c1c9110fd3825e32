//! What a child inherits: a list of names, and nothing that is not on it.

use std::ffi::OsString;

use crate::platform::Account;

/// Where programs are looked up, on every host.
pub const FIXED_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const INHERITED: [&str; 7] = ["HOME", "LANG", "LANGUAGE", "LOGNAME", "TMPDIR", "TZ", "USER"];
/// Marks every process of an execution, so that strays are found again.
pub const ENV_MARKER: &str = "MUSTER_COMMAND_ID";

/// The variables that tell a child which user it is.
pub fn for_account(account: &Account) -> [(&'static str, OsString); 4] {
    [
        ("HOME", account.home.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", account.shell.clone().into()),
        ("USER", account.name.clone().into()),
    ]
}

/// The variables that pass from agent to shim and from shim to child.
pub fn allowed() -> impl Iterator<Item = (OsString, OsString)> {
    let inherited = std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
    });
    inherited.chain([(OsString::from("PATH"), OsString::from(FIXED_PATH))])
}
