//! The process that an execution starts.

use std::ffi::OsString;
use std::path::PathBuf;

use muster_protocol::commands::stdin::Stdin;

/// A program with its arguments and variables.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    /// Its `argv[0]`, if that is not its path: some programs choose their behaviour by this name.
    pub name: Option<String>,
    pub arguments: Vec<OsString>,
    pub folder: PathBuf,
    /// Variables beside the inherited ones and those of the user.
    pub variables: Vec<(OsString, OsString)>,
    /// What it reads from standard input, which is empty without.
    pub stdin: Option<Stdin>,
    /// A file that it reads as standard input instead.
    pub input: Option<PathBuf>,
}
