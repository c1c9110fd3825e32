//! The command line: global options, subcommands, and which function runs each.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::api::client::ApiClient;
use crate::commands::access::{
    accept_invitation, account, api_keys, audit, explain as access, identities, keys, login,
    members, passkeys, register, reset_password, setup, switch, tenant, tenants,
};
use crate::commands::certificates::ca;
use crate::commands::commands::{
    approvals, approver, command_history, executions, jobs, logs, raw_command, run, verify,
};
use crate::commands::files::{pull, push, uploads};
use crate::commands::fleet::{agents, ping, suggestions};
use crate::commands::integrations::{alerts, integrations, webhooks};
use crate::commands::library::{assignments, packages, publisher, scripts, services};
use crate::commands::operations::storage;
use crate::commands::releases::{groups, release};
use crate::commands::schedules::{calendars, hooks, schedules};
use crate::completion;
use crate::context::{self, Overrides};
use crate::error::CliError;
use crate::explanation::explain;
use crate::output::printer::{Output, print};
use crate::output::text::pluralize;
use crate::output::time_format::TimeFormat;
use crate::reference::{manual_pages, markdown};
use crate::session::Session;

/// Heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// Run scripts and commands on a fleet of hosts through a Muster server
///
/// Start with `muster login --server URL`, then `muster agents` and `muster run AGENT SCRIPT`.
///
/// Exit codes:
///   0    success
///   1    the server refused the request, or the command did not succeed
///   2    invalid command line
///   3    the server can't be reached
///   130  interrupted or cancelled
/// `muster run` on one agent exits with the code of the script: 124 after a timeout, 128 + N after signal N.
#[derive(Debug, Parser)]
#[command(name = "muster", version, arg_required_else_help = true, verbatim_doc_comment)]
pub struct Cli {
    /// URL of the server [default: the server of the last `muster login`]
    #[arg(long, global = true, env = "MUSTER_SERVER_URL", value_name = "URL", help_heading = GLOBAL)]
    pub server: Option<String>,

    /// PEM file of a certificate authority to trust in addition to those of the system
    #[arg(long, global = true, env = "MUSTER_CA_FILE", value_name = "FILE", help_heading = GLOBAL)]
    pub ca_file: Option<PathBuf>,

    /// Print the server's answer as one JSON document
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,

    /// Show times in UTC [default: the time zone of this host]
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub utc: bool,

    /// Allow http:// to another host; anyone on the network can then read the API key
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub insecure: bool,

    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    Login(login::Args),
    /// Show the API key or the person that commands use
    Whoami,
    /// End the stored session on the server, and remove the session or the key from this host
    Logout,
    /// Give your password again, or a code of your second factor, which dangerous changes need every 15 minutes
    Confirm(account::ConfirmArgs),
    AcceptInvitation(accept_invitation::Args),
    Register(register::Args),
    VerifyEmail(register::VerifyEmailArgs),
    ResetPassword(reset_password::Args),
    Setup(setup::Args),
    Switch(switch::Args),
    /// Change the address or the password of your account, and list and end your sessions
    Account(account::own::Args),
    /// List and remove what you sign in with at providers of single sign-on
    Identities(identities::Args),
    /// List and remove the devices that sign you in without a password
    Passkeys(passkeys::Args),
    Run(run::Args),
    Logs(logs::Args),
    /// Manage jobs: scripts and commands on many agents
    Jobs(jobs::Args),
    /// List, show and cancel executions of scripts and commands
    #[command(visible_alias = "history")]
    Executions(executions::Args),
    Verify(verify::Args),
    /// List, show, tag, rename, adopt and delete agents
    Agents(agents::Args),
    Ping(ping::Args),
    /// Manage the keys that agents enrol with
    Keys(keys::Args),
    /// Manage the keys that people and programs use the API with
    ApiKeys(api_keys::Args),
    /// Show, list and revoke certificates of clients, and replace the authority of the server
    Ca(ca::Args),
    /// Explain who may do what
    Access(access::Args),
    /// Approve what others requested, and manage the rules of approval
    Approvals(approvals::Args),
    /// Create the key with which you sign approvals
    Approver(approver::Args),
    /// Manage the library: scripts that the server keeps, and their versions
    Scripts(Box<scripts::Args>),
    /// Manage packages: archives that hosts unpack and run
    Packages(packages::Args),
    Push(push::Args),
    Pull(pull::Args),
    /// List and delete the files that were uploaded to be pushed
    Files(uploads::Args),
    /// Manage assignments: packages and scripts that hosts keep, and run at their due times or all the time
    Assignments(assignments::Args),
    /// Manage services: packages that hosts keep running
    Services(services::Args),
    /// Create the key with which you sign scripts, and sign versions
    Publisher(publisher::Args),
    /// Manage calendars: freezes, excluded days and maintenance windows
    Calendars(calendars::Args),
    /// Manage inbound hooks: jobs that start when another program asks for it
    Hooks(hooks::Args),
    /// Manage schedules: jobs that start at due times
    Schedules(schedules::Args),
    /// Show, rename, export and delete your tenant
    Tenant(tenant::Args),
    /// Manage the tenants of the server and their plans, as its operator
    Tenants(tenants::Args),
    Storage(storage::Args),
    /// List, follow, export and verify the audit log
    Audit(audit::Args),
    /// List, invite and remove members, and change their roles
    Members(members::Args),
    /// Manage groups of agents and roll out versions to them
    Groups(groups::Args),
    /// Build, sign and publish releases of the agent and the supervisor
    Release(release::Args),
    /// List alerts, and manage the rules that open them
    Alerts(alerts::Args),
    /// Manage integrations: where events are sent
    Integrations(integrations::Args),
    /// List and resend webhook deliveries, and manage their signing secrets
    Webhooks(webhooks::Args),
    /// Send an agent a command such as ping, info, restart or update
    Command(raw_command::Args),
    /// List, show and cancel commands, including restarts and updates
    Commands(command_history::Args),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print names of agents and scripts, for completion scripts
    #[command(hide = true)]
    Suggest(suggestions::Args),
    #[command(name = "man")]
    Manual(ManualArgs),
}

#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// Shell to complete in
    shell: Shell,
}

/// Write the manual pages of all commands to a directory
///
/// To read them with `man muster-run`, write them to a directory such as ~/.local/share/man/man1.
#[derive(Debug, clap::Args)]
pub struct ManualArgs {
    /// Directory, which is created if it is missing
    directory: PathBuf,
    /// Write one page of Markdown, CLI.md, instead
    #[arg(long)]
    markdown: bool,
}

/// Runs the subcommand; returns the exit code.
///
/// # Errors
/// [`CliError`], which has its own exit code.
pub async fn dispatch(cli: Cli) -> Result<u8, CliError> {
    let time = if cli.utc { TimeFormat::Utc } else { TimeFormat::Local };
    let output = Output { json: cli.json, time };
    let overrides = Overrides {
        server: cli.server.filter(|server| !server.is_empty()),
        api_key: std::env::var("MUSTER_API_KEY")
            .ok()
            .filter(|key| !key.trim().is_empty())
            .map(|key| key.trim().into()),
        insecure: cli.insecure,
        ca_file: cli.ca_file.filter(|path| !path.as_os_str().is_empty()),
    };
    let action = match cli.action {
        Action::Completion(args) => return print_completion(&args),
        Action::Manual(args) => return write_manual_pages(&args),
        Action::Login(args) if args.decision().is_none() => {
            return login::run(args, overrides, output).await;
        }
        Action::AcceptInvitation(args) => {
            return accept_invitation::run(args, overrides, output).await;
        }
        Action::Setup(args) => return setup::run(args, overrides, output).await,
        Action::Register(args) => return register::run(args, overrides, output).await,
        Action::VerifyEmail(args) => return register::verify(args, overrides, output).await,
        Action::ResetPassword(args) => return reset_password::run(args, overrides, output).await,
        Action::Verify(args) if args.is_offline() => return verify::run_offline(&args, output),
        Action::Audit(args) if args.is_offline() => return audit::run_offline(args, output),
        Action::Approver(args) => return approver::run(args, output),
        Action::Publisher(args) if args.is_offline() => {
            return publisher::run_offline(args, output);
        }
        Action::Release(args) if args.is_offline() => return release::run_offline(args, output),
        action => action,
    };
    let context = context::resolve(overrides, context::default_path().as_deref())?;
    if matches!(action, Action::Logout) {
        return account::logout(context, output).await;
    }
    let action = match action {
        Action::Switch(args) => return switch::run(args, context, output).await,
        action => action,
    };
    let session = Session { api: ApiClient::new(&context)?, output };
    let (options, result) = match action {
        Action::Completion(_)
        | Action::Manual(_)
        | Action::AcceptInvitation(_)
        | Action::Approver(_)
        | Action::Register(_)
        | Action::VerifyEmail(_)
        | Action::ResetPassword(_)
        | Action::Setup(_)
        | Action::Switch(_)
        | Action::Logout => (&[][..], Ok(0)),
        Action::Account(args) => (account::own::OPTIONS, account::own::run(args, &session).await),
        Action::Identities(args) => (&[][..], identities::run(args, &session).await),
        Action::Passkeys(args) => (&[][..], passkeys::run(args, &session).await),
        Action::Login(args) => (&[][..], login::decide(args, &session).await),
        Action::Whoami => (&[][..], account::whoami(&session).await),
        Action::Confirm(args) => (&[][..], account::confirm(&args, &session).await),
        Action::Members(args) => (members::OPTIONS, members::run(args, &session).await),
        Action::Agents(args) => (agents::OPTIONS, agents::run(args, &session).await),
        Action::Keys(args) => (keys::OPTIONS, keys::run(args, &session).await),
        Action::ApiKeys(args) => (api_keys::OPTIONS, api_keys::run(args, &session).await),
        Action::Ca(args) => (ca::OPTIONS, ca::run(args, &session).await),
        Action::Access(args) => (access::OPTIONS, access::run(args, &session).await),
        Action::Approvals(args) => (approvals::OPTIONS, approvals::run(args, &session).await),
        Action::Tenant(args) => (tenant::OPTIONS, tenant::run(args, &session).await),
        Action::Storage(args) => (storage::OPTIONS, storage::run(args, &session).await),
        Action::Tenants(args) => (tenants::OPTIONS, tenants::run(args, &session).await),
        Action::Audit(args) => (audit::OPTIONS, audit::run(args, &session).await),
        Action::Suggest(args) => (&[][..], suggestions::run(args, &session).await),
        Action::Ping(args) => (ping::OPTIONS, ping::run(args, &session).await),
        // Users of `command` write the API's fields themselves.
        Action::Command(args) => (&[][..], raw_command::run(args, &session).await),
        Action::Run(args) => (run::OPTIONS, Box::pin(run::run(args, &session)).await),
        Action::Logs(args) => (logs::OPTIONS, logs::run(args, &session).await),
        Action::Jobs(args) => (jobs::OPTIONS, jobs::run(args, &session).await),
        Action::Executions(args) => (executions::OPTIONS, executions::run(args, &session).await),
        Action::Verify(args) => (&[][..], verify::run(args, &session).await),
        Action::Alerts(args) => (alerts::OPTIONS, alerts::run(args, &session).await),
        Action::Integrations(args) => {
            (integrations::OPTIONS, integrations::run(args, &session).await)
        }
        Action::Webhooks(args) => (webhooks::OPTIONS, webhooks::run(args, &session).await),
        Action::Scripts(args) => (scripts::OPTIONS, Box::pin(scripts::run(*args, &session)).await),
        Action::Packages(args) => (packages::OPTIONS, packages::run(args, &session).await),
        Action::Push(args) => (push::OPTIONS, Box::pin(push::run(args, &session)).await),
        Action::Pull(args) => (pull::OPTIONS, Box::pin(pull::run(args, &session)).await),
        Action::Files(args) => (uploads::OPTIONS, uploads::run(args, &session).await),
        Action::Assignments(args) => {
            (assignments::OPTIONS, Box::pin(assignments::run(args, &session)).await)
        }
        Action::Services(args) => {
            (services::OPTIONS, Box::pin(services::run(args, &session)).await)
        }
        Action::Publisher(args) => (scripts::OPTIONS, publisher::run(args, &session).await),
        Action::Calendars(args) => (calendars::OPTIONS, calendars::run(args, &session).await),
        Action::Hooks(args) => (hooks::OPTIONS, hooks::run(args, &session).await),
        Action::Schedules(args) => (schedules::OPTIONS, schedules::run(args, &session).await),
        Action::Groups(args) => (groups::OPTIONS, groups::run(args, &session).await),
        Action::Release(args) => (&[][..], release::run(args, &session).await),
        Action::Commands(args) => {
            (command_history::OPTIONS, command_history::run(args, &session).await)
        }
    };
    result.map_err(|error| explain(error, options))
}

fn print_completion(args: &CompletionArgs) -> Result<u8, CliError> {
    print(completion::script(args.shell, Cli::command()).trim_end())?;
    Ok(0)
}

fn write_manual_pages(args: &ManualArgs) -> Result<u8, CliError> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory).map_err(CliError::file("create", directory))?;
    let mut cli = Cli::command();
    cli.build();
    let pages = match args.markdown {
        true => vec![("CLI.md".to_owned(), markdown(&cli))],
        false => manual_pages(&cli),
    };
    for (name, text) in &pages {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(CliError::file("write", &path))?;
    }
    let count = pluralize(pages.len() as u64, "page");
    print(&format!("{count} written to {}.", directory.display()))?;
    Ok(0)
}

#[cfg(test)]
mod tests;
