//! The probe: an `execute` that runs only the agent's own program. It shows that a new version of an agent
//! runs executions, on the same path as every other one: delivery, shim, output and result.
//!
//! It has no parameters and starts nothing that a host lists, so hosts need neither an entry in their
//! manifest nor another policy for it.

/// The capability of an agent that runs probes.
pub const CAPABILITY: &str = "probe";
/// What a probe is called wherever an execution of a script has a name. Names of scripts have no colon.
pub const PROBE: &str = "agent:probe";
/// Longest run of a probe.
pub const PROBE_TIMEOUT_MS: u64 = 60_000;

/// The only output of a probe, on standard output.
pub fn output(version: &str) -> String {
    format!("muster-agent {version} runs executions\n")
}
