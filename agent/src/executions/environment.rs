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

/// The variables that are passed from the agent to the shim and from the shim to the child.
pub fn allowed() -> impl Iterator<Item = (OsString, OsString)> {
    let inherited = std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
    });
    inherited.chain([(OsString::from("PATH"), OsString::from(FIXED_PATH))])
}
