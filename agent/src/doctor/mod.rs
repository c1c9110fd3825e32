//! `muster-agent doctor`: why there is no link to the server, or that there could be one.
//!
//! Looks and leaves: it takes no lock, writes nothing that stays, enrols nobody. An agent may be
//! working on the same state directory, or none may ever have. It takes 90 s at most: 8 for the
//! name, 8 for the connections, 12 for the proxy, 8 for TLS, 10 for the server's time, and 15 and
//! a goodbye of 2 for each transport; the rest is reading files.

mod access;
mod finding;
mod manifest;
mod network;
mod report;
mod server;
mod storage;
mod tls;

use std::path::Path;

use clap::Args;

pub use finding::{Check, Finding, Verdict};
pub use report::{Form, render, root_cause};

use crate::config::{Config, Fallback, RunArgs};
use crate::key::KeyRing;
use crate::layout::StateDir;
use crate::link::{LinkError, Way};

/// Options of `muster-agent doctor`: those of `run`, and the form of the report.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Print an array of {check, verdict, detail, remedy}.
    #[arg(long, conflicts_with = "brief")]
    pub json: bool,
    /// Print nothing, or one line: what is wrong first, and what to do.
    #[arg(long)]
    pub brief: bool,
}

impl DoctorArgs {
    /// The form that was asked for.
    pub fn form(&self) -> Form {
        match (self.json, self.brief) {
            (true, _) => Form::Json,
            (_, true) => Form::Brief,
            _ => Form::Table,
        }
    }
}

/// Makes every check; each that rests on a failed one is skipped and says so.
pub async fn examine(args: RunArgs) -> Vec<Finding> {
    let mut findings = Vec::with_capacity(Check::ALL.len());
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => {
            let (detail, remedy) = error.told();
            findings.push(Finding::fail(Check::Configuration, detail, remedy));
            skip_after(&mut findings, Check::Configuration);
            return findings;
        }
    };
    findings.push(configuration(&config));
    let state = StateDir::existing(&config.state_dir);
    look_at_files(&mut findings, &config.state_dir, state.as_ref());
    go_the_way(&mut findings, &config, state.as_ref()).await;
    findings
}

fn configuration(config: &Config) -> Finding {
    let address = config.endpoint.websocket_url();
    let place = config.state_dir.display();
    Finding::ok(Check::Configuration, format!("server {address}, state in {place}"))
}

fn look_at_files(findings: &mut Vec<Finding>, path: &Path, state: Option<&StateDir>) {
    findings.push(storage::state_directory(path));
    findings.push(storage::disk(path));
    findings.push(manifest::manifest(state));
}

async fn go_the_way(findings: &mut Vec<Finding>, config: &Config, state: Option<&StateDir>) {
    let way = Way::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities);
    let way = match way {
        Ok(way) => way,
        Err(error) => {
            let (detail, _) = told(&error);
            let remedy = "install the package ca-certificates, or name a bundle in MUSTER_CA_FILE";
            for check in [Check::Dns, Check::Tcp, Check::Proxy] {
                findings.push(Finding::skipped_after(check, Check::Tls));
            }
            findings.push(Finding::fail(Check::Tls, detail, remedy));
            return skip_after(findings, Check::Tls);
        }
    };
    let (dns, addresses) = network::dns(&way).await;
    if !goes_on(findings, dns) {
        return;
    }
    if !goes_on(findings, network::tcp(&way, &addresses).await) {
        return;
    }
    let (proxy, socket) = network::proxy(&way, config.fallback != Fallback::Never).await;
    if !goes_on(findings, proxy) {
        return;
    }
    if !goes_on(findings, tls::tls(&way, socket).await) {
        return;
    }
    let told_by_server = server::ask(&way).await;
    findings.push(server::clock(&told_by_server));
    findings.extend(match current_key(config, state) {
        Ok(keys) => access::access(&way, keys.current(), config.fallback).await,
        Err(finding) => {
            let websocket = Finding::skipped_after(Check::Websocket, Check::Key);
            [websocket, finding]
        }
    });
    findings.push(server::version(&told_by_server));
}

/// The key that the agent would present: the server may have given it another.
fn current_key(config: &Config, state: Option<&StateDir>) -> Result<KeyRing, Finding> {
    let Some(state) = state else { return Ok(KeyRing::configured(config.api_key.clone())) };
    KeyRing::load(config.api_key.clone(), state).map_err(|error| {
        let detail = format!("the key that the server gave can't be read: failed to {error}");
        let remedy =
            format!("run as the agent's user; if damaged, remove {}", state.key().display());
        Finding::fail(Check::Key, detail, remedy)
    })
}

/// Notes a finding; if it is a failure, everything after it is skipped.
fn goes_on(findings: &mut Vec<Finding>, finding: Finding) -> bool {
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

/// What an error says and what to do about it, apart.
fn told(error: &LinkError) -> (String, String) {
    match error {
        LinkError::Blocked(obstacle) => (obstacle.to_string(), obstacle.remedy().to_owned()),
        LinkError::TimedOut(action) => (
            format!("no answer in time: {action}"),
            "check that nothing on the way swallows the traffic".to_owned(),
        ),
        other => (chain(other), "check that the address leads to a Muster server".to_owned()),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
