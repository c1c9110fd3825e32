//! Signs a request for approval with the approver's own key, so that hosts need not trust the server.
//!
//! The server supplies what is signed, and may show one thing now and another later. So a person sees all of
//! it and says yes, or a program names the digest of what a person has seen.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use muster_protocol::commands::capsule::{
    ApprovedCommand, CAPSULE_VERSION, Capsule, MAX_CAPSULE_LIFETIME_MS,
};
use muster_protocol::identity::Fingerprint;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::work_to_sign::{HostToSign, WorkToSign};
use crate::commands::commands::approver;
use crate::error::CliError;
use crate::input::quantities::milliseconds;

/// How long a signature is valid unless the command line says otherwise: 24 h.
const DEFAULT_VALID_MS: u64 = 24 * 3_600_000;

#[derive(Debug, clap::Args)]
pub struct SignOptions {
    /// Sign it with this private key, from `muster approver keygen`; needed for hosts that pin approvers
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Your own copy of the script, whose hash is signed [default: the hash that each host reports]
    #[arg(long, value_name = "FILE", requires = "sign")]
    script_file: Option<PathBuf>,
    /// Time that the signature is valid, at most 31d [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "sign")]
    valid: Option<u64>,
    /// Sign without a question if the request still has this digest, which `muster approvals show ID` prints
    #[arg(long, value_name = "SHA256", requires = "sign")]
    expect: Option<String>,
    /// Fingerprint of a host that you know, as `muster-agent status` prints it there; nothing is signed for
    /// others. Repeat it for each host [default: the fingerprints that the server shows]
    #[arg(long = "host", value_name = "FINGERPRINT", requires = "sign")]
    hosts: Vec<Fingerprint>,
}

impl SignOptions {
    /// The file of the key, if it is to be signed.
    pub fn key(&self) -> Option<&Path> {
        self.sign.as_deref()
    }

    /// Signs each command of a request, once a person has seen all of it. `request`: as the server shows it.
    /// The hosts compare all of it with what they get.
    ///
    /// # Errors
    /// [`CliError`] names the file, what the request lacks, or what differs from what was expected.
    pub fn capsules(&self, key: &Path, request: &Value) -> Result<Value, CliError> {
        let pair = approver::read(key)?;
        let valid_ms = self.valid.unwrap_or(DEFAULT_VALID_MS);
        if valid_ms > MAX_CAPSULE_LIFETIME_MS {
            return Err(CliError::Usage("--valid must be at most 31d".into()));
        }
        let own_file = match &self.script_file {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(CliError::file("read", path))?;
                Some(HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()))
            }
            None => None,
        };
        let work = WorkToSign::read(request)?;
        let unknown = |host: &&HostToSign| !self.hosts.contains(&host.fingerprint);
        if let Some(host) = work.hosts.iter().find(unknown).filter(|_| !self.hosts.is_empty()) {
            return Err(CliError::Usage(format!(
                "{} has the fingerprint {}, which no --host names; nothing was signed",
                host.name, host.fingerprint
            )));
        }
        let mut capsules = Vec::with_capacity(work.hosts.len());
        for host in &work.hosts {
            let program_sha256 = match work.is_script {
                true => {
                    let signed = own_file.clone().or_else(|| host.program_sha256.clone());
                    Some(signed.ok_or_else(|| {
                        CliError::Usage(
                            "a host requires no hash of this script; sign that of your own copy with --script-file".into(),
                        )
                    })?)
                }
                false => None,
            };
            let step_programs_sha256 = step_programs(&work, host)?;
            let approved = ApprovedCommand {
                version: CAPSULE_VERSION,
                approver: pair.public_key(),
                command_id: host.command_id,
                agent_id: host.agent_id,
                host: host.fingerprint,
                command: work.command.clone(),
                data_sha256: work.data_sha256.clone(),
                program_sha256,
                step_programs_sha256,
                expires_at_ms: unix_ms().saturating_add(valid_ms),
            };
            capsules.push(Capsule::sign(&approved, &pair));
        }
        self.ask(&work)?;
        Ok(json!(capsules))
    }

    /// Asks a person, or compares with the digest that was given.
    fn ask(&self, work: &WorkToSign) -> Result<(), CliError> {
        let digest = work.digest();
        if let Some(expected) = &self.expect {
            if expected.eq_ignore_ascii_case(&digest) {
                return Ok(());
            }
            return Err(CliError::Usage(format!(
                "the request has the digest {digest} now, not the expected one; nothing was signed. Look at it with `muster approvals show`"
            )));
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(CliError::Usage(
                "look at the request with `muster approvals show`, and pass the digest that it prints with --expect; without a terminal, `muster` can't ask for a confirmation".into(),
            ));
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{}\nType yes to sign this: ", work.described())?;
        stderr.flush()?;
        let mut typed = String::new();
        io::stdin().read_line(&mut typed)?;
        match typed.trim() == "yes" {
            true => Ok(()),
            false => Err(CliError::Usage("nothing was signed".into())),
        }
    }
}

/// The hash of the file of each step that runs a script.
fn step_programs(work: &WorkToSign, host: &HostToSign) -> Result<Vec<Option<String>>, CliError> {
    let known = |number: usize| host.step_programs_sha256.get(number).cloned().flatten();
    let hash_of = |(number, is_script): (usize, &bool)| match (is_script, known(number)) {
        (false, _) => Ok(None),
        (true, Some(hash)) => Ok(Some(hash)),
        (true, None) => Err(CliError::Usage(format!(
            "{} requires no hash of the script of step {}; add `sha256` to it in the manifest of the host",
            host.name,
            number + 1
        ))),
    };
    work.are_script_steps.iter().enumerate().map(hash_of).collect()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
