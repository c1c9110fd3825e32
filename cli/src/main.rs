//! `muster`: the command line of a Muster server.

mod api;
mod cli;
mod command_line;
mod commands;
mod context;
mod error;
mod expression;
mod follow;
mod instant;
mod interrupt;
mod live;
mod live_output;
mod output;
mod resolve;
mod screen;
mod secret_source;
mod server_events;
mod table;
mod trust;
mod verdict;
mod wording;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    install_tls();
    match start(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: cli::Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(commands::dispatch(cli));
    // A write to a terminal that nobody reads must not keep an interrupted command.
    runtime.shutdown_background();
    Ok(outcome.unwrap_or_else(|error| {
        if !error.is_closed_pipe() {
            report(&error);
        }
        error.exit_code()
    }))
}

fn report(error: &error::CliError) {
    // The lines are the program's own layout; what stands in them came from outside.
    for (number, line) in error.to_string().lines().enumerate() {
        match number {
            0 => output::note(&format!("error: {line}")),
            _ => output::note(line),
        }
    }
    if let error::CliError::Refused { status: 401, .. } = error {
        output::note("the key was not accepted: run `muster login` with another one");
    }
}

/// Chooses the cryptography of TLS; further calls change nothing.
fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
