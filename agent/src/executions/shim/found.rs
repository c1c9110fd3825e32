//! What a run starts: found, checked, and described for the attestation.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muster_protocol::commands::attestation::{self, AttestedStep};
use muster_protocol::identity::SignedMessage;
use ring::digest;

use super::Execution;
use super::verify::{self, ScriptRefusal};
use crate::executions::ledger::record::{Launch, ParameterRecord};
use crate::platform::{self, Account};

/// What a run starts, as it was found and checked.
pub struct Found {
    pub account: Option<Account>,
    pub program: PathBuf,
    pub interpreter: Option<PathBuf>,
}

/// Finds what a run starts, and checks that it is what the host listed or accepted.
///
/// # Errors
/// [`ScriptRefusal`] with a message that says what to do.
pub fn find(
    execution: &Execution,
    launch: &Launch,
    account: Option<Account>,
) -> Result<Found, ScriptRefusal> {
    let sha256 = launch.sha256.as_deref();
    if launch.file.is_some() || launch.is_probe {
        // This program itself, in a process of the user that scripts run as.
        return Ok(Found { account, program: platform::self_program(), interpreter: None });
    }
    let program = match launch.argv.first() {
        Some(program) => verify::program(program)?,
        None if launch.package.is_some() => {
            verify::package_entry(execution.dir.package().as_deref(), &launch.path)?
        }
        None if launch.library.is_some() => {
            verify::library_body(&execution.library, &launch.path, sha256)?
        }
        None => verify::script(&execution.scripts, &launch.path, sha256, account.as_ref())?,
    };
    let interpreter = match launch.argv.first() {
        Some(_) => None,
        None if launch.package.is_some() => {
            launch.interpreter.as_deref().map(verify::library_interpreter).transpose()?
        }
        None if launch.library.is_some() => {
            let name = launch.interpreter.as_deref().unwrap_or_default();
            Some(verify::library_interpreter(name)?)
        }
        None => verify::interpreter(&program, launch.interpreter.as_deref())?,
    };
    Ok(Found { account, program, interpreter })
}

fn sha256_of(message: &SignedMessage) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, message.as_bytes()).as_ref())
}

/// The attested hash of what a run starts.
pub fn program_sha256(launch: &Launch, program: &Path) -> Option<String> {
    match launch.argv.is_empty() {
        // The archive, which has all files that can run.
        true if launch.package.is_some() || launch.file.is_some() => launch.sha256.clone(),
        true => verify::hash(program).ok(),
        false => Some(sha256_of(&attestation::words_message(&launch.argv))),
    }
}

/// What a run is attested as, without the hash of its program.
pub fn attested_step(launch: &Launch, parameters: &ParameterRecord) -> AttestedStep {
    let hash_of = |are_defaults: bool| {
        let of_kind = |name: &str| parameters.defaults.contains(name) == are_defaults;
        let open: Vec<_> = parameters
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| of_kind(name))
            .collect();
        let secrets = parameters.secret_parameters.iter().map(|(name, _)| name);
        let secrets: Vec<_> = secrets.filter(|name| of_kind(name)).collect();
        let secret_count = u32::try_from(secrets.len()).unwrap_or(u32::MAX);
        let message = attestation::parameters_message(open.into_iter(), secrets.into_iter());
        (sha256_of(&message), secret_count)
    };
    let (parameters_sha256, secret_count) = hash_of(false);
    AttestedStep {
        script: launch.script.clone(),
        library_version: launch.library.map(|library| library.version),
        program_sha256: None,
        parameters_sha256,
        secret_count,
        defaults_sha256: (!parameters.defaults.is_empty()).then(|| hash_of(true).0),
    }
}
