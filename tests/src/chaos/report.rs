//! The report on a run, or on many: statistics and violations.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::checker::{Promise, Violation};
use super::evaluation::Findings;
use super::fault_injector::InjectedFaults;
use super::fleet::{Fleet, names};
use super::plan::FaultKind;
use super::settings::{ChaosSettings, Store};
use crate::processes::binaries::binary;

/// Counts of one run or of many.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    pub runs: usize,
    pub executions: usize,
    /// Submissions that were jobs for several hosts.
    pub jobs: usize,
    pub states: BTreeMap<String, usize>,
    pub faults: BTreeMap<FaultKind, usize>,
    pub violations: usize,
}

impl Statistics {
    /// Adds the counts of other runs.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.executions += other.executions;
        self.jobs += other.jobs;
        self.violations += other.violations;
        for (state, count) in &other.states {
            *self.states.entry(state.clone()).or_default() += count;
        }
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: usize = self.faults.values().sum();
        writeln!(f, "| what | count |\n|---|---:|")?;
        writeln!(f, "| runs, each with a server and hosts of its own | {} |", self.runs)?;
        writeln!(f, "| executions | {} |", self.executions)?;
        writeln!(f, "| submissions for several hosts | {} |", self.jobs)?;
        for (state, count) in &self.states {
            writeln!(f, "| executions that ended `{state}` | {count} |")?;
        }
        writeln!(f, "| faults | {faults} |")?;
        for (kind, count) in &self.faults {
            writeln!(f, "| {kind:?} | {count} |")?;
        }
        writeln!(f, "| violations | {} |", self.violations)
    }
}

/// The result of one run.
#[derive(Debug)]
pub struct ChaosReport {
    pub seed: u64,
    pub store: Store,
    pub statistics: Statistics,
    pub violations: Vec<Violation>,
    pub injected: InjectedFaults,
}

impl ChaosReport {
    pub(super) fn new(
        settings: &ChaosSettings,
        findings: Findings,
        injected: InjectedFaults,
    ) -> Self {
        let Findings { states, jobs, violations } = findings;
        let statistics = Statistics {
            runs: 1,
            executions: states.values().sum(),
            jobs,
            states,
            faults: injected.counts.clone(),
            violations: violations.len(),
        };
        Self { seed: settings.seed, store: settings.store, statistics, violations, injected }
    }

    /// True if a promise of this kind was broken.
    pub fn has(&self, promise: Promise) -> bool {
        self.violations.iter().any(|violation| violation.promise == promise)
    }

    fn logs(&self) -> PathBuf {
        kept().join(format!("{}-{:?}", self.seed, self.store))
    }
}

impl fmt::Display for ChaosReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics { executions, states, faults, .. } = &self.statistics;
        write!(f, "seed {} on {:?}: {executions} executions {states:?}, ", self.seed, self.store)?;
        write!(f, "{faults:?}, {} violations", self.violations.len())?;
        if self.violations.is_empty() {
            return Ok(());
        }
        writeln!(f, "; logs in {}", self.logs().display())?;
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        writeln!(f, "  What was done:")?;
        self.injected.log.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Where statistics and the logs of runs with violations are stored: beside the programs.
pub fn kept() -> PathBuf {
    binary("chaos-work").with_file_name("chaos")
}

/// Copies the logs of a run with violations, and its report, to a folder that outlives the run.
pub(super) fn keep_logs(fleet: &Fleet, report: &ChaosReport) {
    let folder = report.logs();
    std::fs::create_dir_all(&folder).expect("make a folder for the logs");
    for name in names(fleet.test_dir.path()).iter().filter(|name| name.ends_with(".log")) {
        std::fs::copy(fleet.test_dir.path().join(name), folder.join(name)).expect("keep a log");
    }
    std::fs::copy(&fleet.start_log, folder.join("start_log")).expect("keep the start_log");
    std::fs::write(folder.join("report"), report.to_string()).expect("keep the report");
}
