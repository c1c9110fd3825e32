//! The options that roll a job out in waves.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::input::quantities::{count_or_percentage, milliseconds};

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Rollout in waves (on many agents)")]
pub struct RolloutOptions {
    /// Agents in a wave: a number, or a percentage such as 10%
    ///
    /// The next wave starts after all executions of the wave have ended.
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage)]
    wave: Option<Value>,
    /// Wait this long between two waves, such as 30s, 5m or 1h [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "wave")]
    pause: Option<u64>,
    /// Halt after more failures than this: a number, or a percentage of all agents [default: no limit]
    ///
    /// Running executions count as possible failures, so that a wave may start in parts; see --whole-waves.
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage, requires = "wave")]
    max_failures: Option<Value>,
    /// Start all executions of a wave at once, even if all of them could fail
    #[arg(long, requires = "max_failures")]
    whole_waves: bool,
    /// Start the next wave only after each agent of the wave was online for this long
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "wave")]
    healthy_for: Option<u64>,
    /// Halt if the agents are not healthy within this time [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "healthy_for")]
    healthy_within: Option<u64>,
    /// What to do about agents that are offline [default: wait]
    #[arg(long, value_enum)]
    offline: Option<Offline>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Offline {
    /// Wait for them until --expires; in a rollout they keep their place
    Wait,
    /// Leave them out
    Skip,
    /// Refuse the run if any agent is offline
    Fail,
    /// Move them to the last wave; needs --wave
    LastWave,
}

impl RolloutOptions {
    /// The `rollout` of a job; none without `--wave`.
    pub fn body(&self) -> Option<Value> {
        let mut body = json!({ "wave_size": self.wave.as_ref()? });
        if let Some(pause_ms) = self.pause {
            body["pause_ms"] = pause_ms.into();
        }
        if let Some(max_failures) = &self.max_failures {
            body["max_failures"] = max_failures.clone();
        }
        if self.whole_waves {
            body["count_in_flight"] = false.into();
        }
        if let Some(for_ms) = self.healthy_for {
            body["health_gate"] = json!({ "online": true, "for_ms": for_ms });
        }
        if let Some(within_ms) = self.healthy_within {
            body["health_gate"]["within_ms"] = within_ms.into();
        }
        match self.offline {
            Some(Offline::LastWave) => body["offline"] = "last_wave".into(),
            Some(Offline::Skip) => body["offline"] = "skip".into(),
            Some(Offline::Wait | Offline::Fail) | None => {}
        }
        Some(body)
    }

    /// The `offline` of a job, beside its rollout; none for the default.
    ///
    /// # Errors
    /// [`CliError::Usage`] for `last-wave` without waves.
    pub fn offline(&self) -> Result<Option<&'static str>, CliError> {
        match (self.offline, self.wave.is_some()) {
            (Some(Offline::LastWave), false) => {
                Err(CliError::Usage("--offline last-wave needs --wave".into()))
            }
            (Some(Offline::Fail), _) => Ok(Some("fail")),
            (Some(Offline::Skip), false) => Ok(Some("skip")),
            _ => Ok(None),
        }
    }

    /// True if an option is given.
    pub fn is_given(&self) -> bool {
        self.wave.is_some() || self.offline.is_some()
    }
}
