//! `muster`: the command-line client of a Muster server.
//!
//! The module tree below is the whole program. Modules use each other in one direction: `cli`, then
//! `commands`, then `session`, then `api`, `output` and `input`, then `error`.

// They panic if the reader of the pipe is gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod completion;
mod context;
mod error;
mod exit_status;
mod explanation;
mod interrupt;
mod listing;
mod reference;
mod session;

/// The REST API: requests, server-sent events, output of executions.
mod api {
    pub mod certificates;
    pub mod client;
    pub mod credential;
    pub mod event_stream;
    pub mod output_poll;
    pub mod output_stream;
    pub mod proxy;
    pub mod sse_client;
}

/// What users type: times, amounts, expressions, names, secrets.
mod input {
    pub mod expiry;
    pub mod expressions;
    pub mod file_parameters;
    pub mod id_prefix;
    pub mod instants;
    pub mod name_lookup;
    pub mod quantities;
    pub mod role;
    pub mod secret_sources;
    pub mod standard_input;
}

/// What users read: tables, JSON, notes, output of scripts.
mod output {
    pub mod line_diff;
    pub mod printer;
    pub mod state_colours;
    pub mod table;
    pub mod terminal_filter;
    pub mod text;
    pub mod time_format;
    pub mod work_summary;
}

/// The subcommands, by feature. The features have the same names as in the server.
mod commands {
    /// Keys, members, and the login of this client.
    pub mod access {
        pub mod accept_invitation;
        pub mod account;
        pub mod api_keys;
        pub mod audit;
        pub mod explain;
        pub mod identities;
        pub mod invitations;
        pub mod keys;
        pub mod ladder;
        pub mod login;
        pub mod members;
        pub mod passkeys;
        pub mod register;
        pub mod reset_password;
        pub mod setup;
        pub mod switch;
        pub mod tenant;
        pub mod tenants;
    }
    /// Certificates of clients.
    pub mod certificates {
        pub mod ca;
    }
    /// Commands, jobs, rollouts, executions and their output.
    #[expect(clippy::module_inception, reason = "the feature has the server's name for it")]
    pub mod commands {
        pub mod agent_count;
        pub mod approval_note;
        pub mod approvals;
        pub mod approver;
        pub mod command_history;
        pub mod executions;
        pub mod job_follow;
        pub mod job_progress;
        pub mod jobs;
        pub mod logs;
        pub mod on_mismatch;
        pub mod output_groups;
        pub mod raw_command;
        pub mod rollout_options;
        pub mod run;
        pub mod run_options;
        pub mod verify;
    }
    /// Agents and targets.
    pub mod fleet {
        pub mod agents;
        pub mod ping;
        pub mod suggestions;
        pub mod target_options;
    }
    /// Files that are pushed to hosts and pulled from them.
    pub mod files {
        mod place;
        pub mod pull;
        pub mod push;
        mod upload;
        pub mod uploads;
    }
    /// Integrations and webhooks.
    pub mod integrations {
        pub mod alerts;
        pub mod integrations;
        pub mod webhooks;
    }
    /// Releases and the groups that install them.
    pub mod releases {
        pub mod groups;
        pub mod release;
    }
    /// The library of scripts, and the keys that sign them.
    pub mod library {
        pub mod assignments;
        pub mod packages;
        pub mod publisher;
        pub mod scripts;
        pub mod services;
    }
    /// What the server and the tenant store.
    pub mod operations {
        pub mod storage;
    }
    /// Schedules of jobs, calendars and inbound hooks.
    pub mod schedules {
        pub mod calendars;
        pub mod hooks;
        pub mod schedules;
    }
}

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use error::CliError;
use output::printer::print_note;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            print_note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let is_json = cli.json;
    let result = runtime.block_on(cli::dispatch(cli));
    // A blocked write to a terminal must not keep an interrupted process alive.
    runtime.shutdown_background();
    Ok(result.unwrap_or_else(|error| {
        if !error.is_closed_pipe() {
            match is_json {
                true => report_json(&error),
                false => report(&error),
            }
        }
        error.exit_code()
    }))
}

/// Codes of refusals of a typed password or token: nothing that is stored is wrong.
const TYPED_CODES: [&str; 5] = [
    "wrong_sign_in",
    "wrong_password",
    "invalid_invitation",
    "invalid_setup_token",
    "invalid_bootstrap_key",
];

/// For programs: one document on standard error.
fn report_json(error: &CliError) {
    let mut document = serde_json::json!({ "error": muster_protocol::error_chain(error) });
    if let CliError::Refused(problem) = error {
        document["code"] = problem.code.as_str().into();
        document["status"] = problem.status.into();
    }
    print_note(&document.to_string());
}

fn report(error: &CliError) {
    // `print_note` replaces line breaks, so that text from the server can't forge lines. The breaks in an
    // error are this program's own.
    for (number, line) in muster_protocol::error_chain(error).lines().enumerate() {
        match number {
            // What a person asked for with ^C is no error.
            0 if matches!(error, CliError::Interrupted(_)) => print_note(line),
            0 => print_note(&format!("error: {line}")),
            _ => print_note(line),
        }
    }
    if let CliError::Refused(problem) = error
        && problem.status == 401
        && !TYPED_CODES.contains(&problem.code.as_str())
    {
        print_note(
            "the server does not accept the stored key or session; run `muster login` again",
        );
    }
}
