//! What is stored, by cause and by script, as a measurement found it.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

/// Most scripts of a tenant that a measurement names. The others are added up.
pub const MAX_NAMED_SCRIPTS: usize = 50;

/// Why bytes are stored.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum StorageCause {
    /// Commands, executions and jobs with their results, approvals, and fires of schedules.
    History,
    /// Output of executions.
    Output,
    /// Heartbeats and metrics of agents, and their events.
    Telemetry,
    /// Messages of webhooks and integrations, and alerts.
    Deliveries,
    /// The audit log.
    Audit,
    /// Scripts, packages and uploaded files.
    Library,
    /// Releases of the agent and the supervisor, which belong to the server.
    Releases,
}

impl StorageCause {
    /// The name in API and database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What one cause takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CauseUsage {
    pub cause: StorageCause,
    pub row_count: u64,
    /// Bytes of files on disk, which are exact.
    pub file_bytes: u64,
    /// Bytes of rows in the database: the size of their texts, and an estimate of everything else.
    pub estimated_row_bytes: u64,
}

impl CauseUsage {
    /// Files and rows.
    pub fn bytes(&self) -> u64 {
        self.file_bytes.saturating_add(self.estimated_row_bytes)
    }
}

/// What the executions of one script take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScriptUsage {
    /// Name of the script; empty for ad-hoc commands; null for commands that run no script.
    pub script: Option<String>,
    pub execution_count: u64,
    /// Rows of the history, estimated.
    pub history_bytes: u64,
    /// Stored output: files, which are compressed, and rows.
    pub output_bytes: u64,
    /// Output as the executions wrote it, before compression. Exact.
    pub written_bytes: u64,
    /// History and output of executions that were created in the last 7 days.
    pub recent_bytes: u64,
}

impl ScriptUsage {
    /// History and output.
    pub fn bytes(&self) -> u64 {
        self.history_bytes.saturating_add(self.output_bytes)
    }

    /// Adds the numbers of another one.
    pub fn add(&mut self, other: &Self) {
        self.execution_count += other.execution_count;
        self.history_bytes += other.history_bytes;
        self.output_bytes += other.output_bytes;
        self.written_bytes += other.written_bytes;
        self.recent_bytes += other.recent_bytes;
    }
}

/// What a tenant, or the server as a whole, stores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageUsage {
    /// In the order of [`StorageCause`]; causes without rows and files are left out.
    pub causes: Vec<CauseUsage>,
    /// The scripts that take most, largest first; at most [`MAX_NAMED_SCRIPTS`].
    pub scripts: Vec<ScriptUsage>,
    /// All other scripts together, and how many they are.
    pub other_scripts: ScriptUsage,
    pub other_script_count: u64,
}

/// The script that writes most, with its share of what all scripts wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LargestWriter {
    /// Empty for ad-hoc commands.
    pub script: String,
    /// Of history and output of the last 7 days, rounded down.
    pub share_percent: u64,
}

impl StorageUsage {
    /// Sorts the scripts, and adds up those that are not named.
    pub fn new(mut causes: Vec<CauseUsage>, mut scripts: Vec<ScriptUsage>) -> Self {
        causes.retain(|cause| cause.row_count > 0 || cause.bytes() > 0);
        causes.sort_by_key(|cause| cause.cause);
        scripts.sort_by(|one, two| {
            (two.bytes(), two.execution_count, &one.script).cmp(&(
                one.bytes(),
                one.execution_count,
                &two.script,
            ))
        });
        let rest = scripts.split_off(scripts.len().min(MAX_NAMED_SCRIPTS));
        let mut other_scripts = ScriptUsage::default();
        rest.iter().for_each(|script| other_scripts.add(script));
        Self { causes, scripts, other_scripts, other_script_count: rest.len() as u64 }
    }

    /// What one cause takes.
    pub fn of(&self, cause: StorageCause) -> u64 {
        self.causes.iter().filter(|found| found.cause == cause).map(CauseUsage::bytes).sum()
    }

    /// Everything.
    pub fn total_bytes(&self) -> u64 {
        self.causes.iter().map(CauseUsage::bytes).sum()
    }

    /// What a quota bounds: history and output.
    pub fn counted_bytes(&self) -> u64 {
        self.of(StorageCause::History).saturating_add(self.of(StorageCause::Output))
    }

    /// Output as executions wrote it.
    pub fn written_bytes(&self) -> u64 {
        let named: u64 = self.scripts.iter().map(|script| script.written_bytes).sum();
        named.saturating_add(self.other_scripts.written_bytes)
    }

    /// The script that wrote most in the last 7 days; `None` if nothing was written.
    pub fn largest_writer(&self) -> Option<LargestWriter> {
        let all = self.scripts.iter().chain([&self.other_scripts]);
        let recent_bytes: u64 = all.map(|script| script.recent_bytes).sum();
        let named = self.scripts.iter().filter(|script| script.script.is_some());
        let most = named.max_by_key(|script| script.recent_bytes)?;
        let share = u128::from(most.recent_bytes) * 100;
        let share_percent = share.checked_div(u128::from(recent_bytes))?;
        (most.recent_bytes > 0).then(|| LargestWriter {
            script: most.script.clone().unwrap_or_default(),
            share_percent: u64::try_from(share_percent).unwrap_or(100),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn script(number: usize, bytes: u64, recent_bytes: u64) -> ScriptUsage {
        ScriptUsage {
            script: Some(format!("script-{number}")),
            execution_count: 1,
            history_bytes: bytes / 2,
            output_bytes: bytes - bytes / 2,
            written_bytes: bytes * 3,
            recent_bytes,
        }
    }

    proptest! {
        #[test]
        fn scripts_that_are_not_named_are_added_up_and_nothing_is_lost(
            sizes in proptest::collection::vec((0_u64..1 << 40, 0_u64..1 << 40), 0..120)
        ) {
            let scripts: Vec<_> = sizes.iter().enumerate()
                .map(|(number, (bytes, recent))| script(number, *bytes, *recent)).collect();
            let usage = StorageUsage::new(Vec::new(), scripts);
            let all = || usage.scripts.iter().chain([&usage.other_scripts]);
            prop_assert!(usage.scripts.len() <= MAX_NAMED_SCRIPTS);
            prop_assert_eq!(usage.scripts.len() as u64 + usage.other_script_count, sizes.len() as u64);
            prop_assert_eq!(all().map(ScriptUsage::bytes).sum::<u64>(), sizes.iter().map(|size| size.0).sum::<u64>());
            prop_assert_eq!(all().map(|one| one.recent_bytes).sum::<u64>(), sizes.iter().map(|size| size.1).sum::<u64>());
            prop_assert!(usage.scripts.windows(2).all(|pair| pair[0].bytes() >= pair[1].bytes()));
            let smallest = usage.scripts.last().map_or(0, ScriptUsage::bytes);
            prop_assert!(usage.other_scripts.bytes() <= smallest.saturating_mul(usage.other_script_count));
        }

        #[test]
        fn largest_writer_is_a_named_script_with_a_share_of_at_most_all(
            recent in proptest::collection::vec(0_u64..u64::MAX / 64, 0..20)
        ) {
            let scripts = recent.iter().enumerate().map(|(number, bytes)| script(number, 10, *bytes));
            let usage = StorageUsage::new(Vec::new(), scripts.collect());
            match usage.largest_writer() {
                None => prop_assert!(recent.iter().all(|bytes| *bytes == 0)),
                Some(writer) => {
                    prop_assert!(writer.share_percent <= 100);
                    let most = *recent.iter().max().expect("it wrote");
                    let all: u128 = recent.iter().map(|bytes| u128::from(*bytes)).sum();
                    prop_assert_eq!(u128::from(writer.share_percent), u128::from(most) * 100 / all);
                }
            }
        }
    }
}
