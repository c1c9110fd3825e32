//! Plans what an `execute` runs: the one way from a command to a start, for a script, a package, an ad-hoc
//! command, and each step of several.

use muster_protocol::frame::Command;

use super::execute::{self, ExecuteRefusal};
use super::library::{self, PlannedLibrary};
use super::planned::{HostRules, Planned};
use super::{file, package, probe, steps};
use crate::executions::ledger::record::ParameterRecord;
use crate::policy::minimum_versions::Minimum;

/// Checks a command against what the host permits; of steps, each of them.
///
/// # Errors
/// [`ExecuteRefusal`] with a message that says what to do.
pub fn plan(command: &Command, rules: HostRules<'_>) -> Result<Planned, ExecuteRefusal> {
    match steps::is_requested(&command.data) {
        true => steps::plan(command, rules, |step| plan_one(step, rules)),
        false => plan_one(command, rules),
    }
}

fn plan_one(command: &Command, rules: HostRules<'_>) -> Result<Planned, ExecuteRefusal> {
    let HostRules { manifest, policy, minimum_versions, output, now_ms } = rules;
    if library::is_requested(&command.data) {
        let minimum_version = |name: &str| minimum_versions.of(name);
        let rules = library::LibraryRules { policy, minimum_version: &minimum_version, now_ms };
        let PlannedLibrary { launch, parameters, file, minimum } =
            library::plan(command, &rules, output)?;
        let minimum = minimum.map(|(name, version)| Minimum::Script { name, version });
        let minimums = minimum.into_iter().collect();
        return Ok(Planned { launch, parameters, files: vec![file], minimums });
    }
    if package::is_requested(&command.data) {
        return package::plan(command, rules);
    }
    let (launch, parameters) = if probe::is_requested(&command.data) {
        (probe::plan(&command.data, policy, output)?, ParameterRecord::default())
    } else if file::is_requested(&command.data) {
        (file::plan(&command.data, policy, output)?, ParameterRecord::default())
    } else {
        let allowed = execute::AllowedScripts { manifest, allow: policy.allow };
        execute::plan(&command.data, allowed, output)?
    };
    Ok(Planned { launch, parameters, files: Vec::new(), minimums: Vec::new() })
}

#[cfg(test)]
mod approval_tests;
#[cfg(test)]
mod tests;
