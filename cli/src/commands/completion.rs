//! `muster completion`: a completion script for a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::CliError;
use crate::output::print;

/// Which shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell to complete in.
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// [`CliError::Terminal`].
pub fn run(args: &Args) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "muster", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(0)
}
