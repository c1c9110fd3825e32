//! The command line: what may be typed, and its help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use secrecy::SecretString;

use crate::commands::{
    agents, command, commands, completion, executions, groups, jobs, keys, login, logs, ping,
    release, run, webhooks,
};

/// Commands a fleet through a Muster server.
///
/// Exits with 0 on success, 1 if something was refused or did not succeed, 2 for what can't be
/// meant, 3 if the server can't be reached. `muster run` exits as the script did.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// The server's address.
    #[arg(long, global = true, env = "MUSTER_SERVER_URL", value_name = "URL")]
    pub server: Option<String>,

    /// PEM file of a certificate authority to trust beside the system's own.
    #[arg(long, global = true, env = "MUSTER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Print the server's answer as one JSON document.
    #[arg(long, global = true)]
    pub json: bool,

    /// Allow http:// to another host: the key is then readable on the network.
    #[arg(long, global = true)]
    pub insecure: bool,

    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Check a key and keep it for later commands.
    Login(login::Args),
    /// The hosts of the fleet.
    Agents(agents::Args),
    /// The keys that agents enrol with.
    Keys(keys::Args),
    /// Ask an agent for a sign of life.
    Ping(ping::Args),
    /// Send an agent any command.
    Command(command::Args),
    /// Run a script on an agent and follow its output.
    Run(run::Args),
    /// Print the output of an execution or a job, as it comes.
    Logs(logs::Args),
    /// What was asked of many agents at once.
    Jobs(jobs::Args),
    /// What ran where, and what came of it.
    #[command(visible_alias = "history")]
    Executions(executions::Args),
    /// What was told of jobs that have ended, and whether it got there.
    Webhooks(webhooks::Args),
    /// What was asked of agents, and what came of it.
    Commands(commands::Args),
    /// Agents that are to be of one version.
    Groups(groups::Args),
    /// Versions of agent and supervisor: made, signed, published.
    Release(release::Args),
    /// Print a completion script for a shell.
    Completion(completion::Args),
}

/// Reads a key from `text`, `file` or nowhere; the first that is there.
pub fn key_from(
    text: Option<SecretString>,
    file: Option<PathBuf>,
) -> Result<Option<SecretString>, crate::error::CliError> {
    let Some(path) = file else { return Ok(text) };
    let read = std::fs::read_to_string(&path).map_err(|source| crate::error::CliError::File {
        action: "read",
        path,
        source,
    })?;
    Ok(text.or_else(|| Some(read.trim().into())))
}
