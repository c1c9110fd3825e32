//! What an execution starts as a process.

use std::ffi::OsString;
use std::path::PathBuf;

use muster_protocol::stdin::Stdin;

/// A program with its arguments and variables.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    /// The name that it is called with, if not its path: some programs behave differently by it.
    pub name: Option<String>,
    pub arguments: Vec<OsString>,
    pub folder: PathBuf,
    /// Variables beside the inherited ones and those of the user.
    pub variables: Vec<(OsString, OsString)>,
    /// What it reads from standard input, which is empty without.
    pub stdin: Option<Stdin>,
}
