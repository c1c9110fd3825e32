//! `muster-agent doctor`: checks whether this host can connect to its server.
//!
//! It only reads: it takes no lock, leaves no files and enrols no agent. It works on the state
//! directory of a running agent and without any. It takes at most 90 s: 8 for the name, 8 for TCP,
//! 12 for the proxy, 8 for TLS, 10 for the server's time, and 17 for each transport; the rest is
//! reading files. The probe of bodies over HTTP comes in addition, with 30 s for each body.

mod access;
mod bodies;
mod finding;
mod manifest;
mod network;
mod report;
mod server;
mod storage;
mod tls;

use std::path::Path;

use clap::Args;

pub use finding::{Check, CheckStatus, Finding};
pub use report::{ReportFormat, render, root_cause};

use crate::config::{Config, Fallback, RunArgs};
use crate::identity::key::KeyRing;
use crate::link::{Connector, LinkError};
use crate::storage::layout::StateDir;
use muster_protocol::error_chain;

/// Options of `muster-agent doctor`: those of `run`, and the report format.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Print a JSON array of {check, status, detail, hint}.
    #[arg(long, conflicts_with = "brief")]
    pub json: bool,
    /// Print only the first problem and what to do about it, on one line; nothing if there is none.
    #[arg(long)]
    pub brief: bool,
}

impl DoctorArgs {
    /// The requested report format.
    pub fn format(&self) -> ReportFormat {
        match (self.json, self.brief) {
            (true, _) => ReportFormat::Json,
            (_, true) => ReportFormat::Brief,
            _ => ReportFormat::Table,
        }
    }
}

/// Runs all checks. A check that depends on a failed one is skipped and names it.
pub async fn run_checks(args: RunArgs) -> Vec<Finding> {
    let mut findings = Vec::with_capacity(Check::ALL.len());
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => {
            let (detail, hint) = error.message_and_hint();
            findings.push(Finding::fail(Check::Configuration, detail, hint));
            skip_after(&mut findings, Check::Configuration);
            return findings;
        }
    };
    findings.push(configuration(&config));
    let state = StateDir::existing(&config.state_dir);
    check_files(&mut findings, &config.state_dir, state.as_ref());
    check_connection(&mut findings, &config, state.as_ref()).await;
    findings
}

fn configuration(config: &Config) -> Finding {
    let address = config.endpoint.websocket_url();
    let place = config.state_dir.display();
    Finding::ok(Check::Configuration, format!("server {address}, state in {place}"))
}

fn check_files(findings: &mut Vec<Finding>, path: &Path, state: Option<&StateDir>) {
    findings.push(storage::state_directory(path));
    findings.push(storage::disk(path));
    findings.push(manifest::manifest(state));
}

async fn check_connection(findings: &mut Vec<Finding>, config: &Config, state: Option<&StateDir>) {
    let connector =
        Connector::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities);
    let connector = match connector {
        Ok(connector) => connector,
        Err(error) => {
            let (detail, _) = detail_and_hint(&error);
            let hint = "install the package ca-certificates, or set MUSTER_CA_FILE to a CA file";
            for check in [Check::Dns, Check::Tcp, Check::Proxy] {
                findings.push(Finding::skipped_after(check, Check::Tls));
            }
            findings.push(Finding::fail(Check::Tls, detail, hint));
            return skip_after(findings, Check::Tls);
        }
    };
    let (dns, addresses) = network::dns(&connector).await;
    if !passes(findings, dns) {
        return;
    }
    if !passes(findings, network::tcp(&connector, &addresses).await) {
        return;
    }
    let (proxy, socket) = network::proxy(&connector, config.fallback != Fallback::Never).await;
    if !passes(findings, proxy) {
        return;
    }
    if !passes(findings, tls::tls(&connector, socket).await) {
        return;
    }
    let health = server::fetch_health(&connector).await;
    findings.push(server::clock(&health));
    findings.extend(match current_key(config, state) {
        Ok(keys) => access::access(&connector, keys.current(), config.fallback).await,
        Err(finding) => {
            let websocket = Finding::skipped_after(Check::Websocket, Check::Key);
            [websocket, finding]
        }
    });
    findings.push(server::version(&health));
}

/// The key that the agent would present: the server may have replaced the configured one.
fn current_key(config: &Config, state: Option<&StateDir>) -> Result<KeyRing, Finding> {
    let Some(state) = state else { return Ok(KeyRing::configured(config.api_key.clone())) };
    KeyRing::load(config.api_key.clone(), state).map_err(|error| {
        let detail = error_chain(&error);
        let hint = format!(
            "run this as the agent's user; if the file is damaged, remove {}",
            state.key().display()
        );
        Finding::fail(Check::Key, detail, hint)
    })
}

/// Records a finding. After a failure all later checks are skipped.
fn passes(findings: &mut Vec<Finding>, finding: Finding) -> bool {
    let (check, has_failed) = (finding.check, finding.has_failed());
    findings.push(finding);
    if has_failed {
        skip_after(findings, check);
    }
    !has_failed
}

fn skip_after(findings: &mut Vec<Finding>, failed: Check) {
    let rest = Check::ALL.into_iter().skip(findings.len());
    findings.extend(rest.map(|check| Finding::skipped_after(check, failed)));
}

/// The text of an error and what to do about it.
fn detail_and_hint(error: &LinkError) -> (String, String) {
    match error {
        LinkError::Blocked(error) => (error.to_string(), error.hint().to_owned()),
        LinkError::TimedOut(action) => (
            format!("the server did not {action} in time"),
            "check that firewalls in between do not drop the traffic".to_owned(),
        ),
        other => {
            (error_chain(other), "check that the address is that of a Muster server".to_owned())
        }
    }
}
