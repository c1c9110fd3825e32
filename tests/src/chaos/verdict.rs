//! What is said of a run, or of many: figures, and whatever was found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::fleet::{Fleet, names};
use super::judge::{Promise, Violation};
use super::killer::Deeds;
use super::plan::Kind;
use super::settings::{Settings, Store};
use super::trial::Findings;
use crate::processes::binaries::binary;

/// Counts of one run or of many.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub runs: usize,
    pub executions: usize,
    /// Submissions that were jobs for several hosts.
    pub jobs: usize,
    pub states: BTreeMap<String, usize>,
    pub blows: BTreeMap<Kind, usize>,
    pub violations: usize,
}

impl Figures {
    /// Adds those of other runs.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.executions += other.executions;
        self.jobs += other.jobs;
        self.violations += other.violations;
        for (state, count) in &other.states {
            *self.states.entry(state.clone()).or_default() += count;
        }
        for (kind, count) in &other.blows {
            *self.blows.entry(*kind).or_default() += count;
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blows: usize = self.blows.values().sum();
        writeln!(f, "| what | count |\n|---|---:|")?;
        writeln!(f, "| runs, each with a server and hosts of its own | {} |", self.runs)?;
        writeln!(f, "| executions | {} |", self.executions)?;
        writeln!(f, "| submissions for several hosts | {} |", self.jobs)?;
        for (state, count) in &self.states {
            writeln!(f, "| executions that ended `{state}` | {count} |")?;
        }
        writeln!(f, "| blows | {blows} |")?;
        for (kind, count) in &self.blows {
            writeln!(f, "| {kind:?} | {count} |")?;
        }
        writeln!(f, "| violations | {} |", self.violations)
    }
}

/// What came of one run.
#[derive(Debug)]
pub struct Verdict {
    pub seed: u64,
    pub store: Store,
    pub figures: Figures,
    pub violations: Vec<Violation>,
    pub deeds: Deeds,
}

impl Verdict {
    pub(super) fn new(settings: &Settings, findings: Findings, deeds: Deeds) -> Self {
        let Findings { states, jobs, violations } = findings;
        let figures = Figures {
            runs: 1,
            executions: states.values().sum(),
            jobs,
            states,
            blows: deeds.counts.clone(),
            violations: violations.len(),
        };
        Self { seed: settings.seed, store: settings.store, figures, violations, deeds }
    }

    /// True if a promise of this kind was broken.
    pub fn has(&self, promise: Promise) -> bool {
        self.violations.iter().any(|violation| violation.promise == promise)
    }

    fn logs(&self) -> PathBuf {
        kept().join(format!("{}-{:?}", self.seed, self.store))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { executions, states, blows, .. } = &self.figures;
        write!(f, "seed {} on {:?}: {executions} executions {states:?}, ", self.seed, self.store)?;
        write!(f, "{blows:?}, {} violations", self.violations.len())?;
        if self.violations.is_empty() {
            return Ok(());
        }
        writeln!(f, "; logs in {}", self.logs().display())?;
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        writeln!(f, "  What was done:")?;
        self.deeds.log.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Where figures and the logs of runs that went wrong are kept: beside the programs.
pub fn kept() -> PathBuf {
    binary("chaos-work").with_file_name("chaos")
}

/// Puts the logs of a run that went wrong, and its verdict, where they outlive it.
pub(super) fn keep_logs(fleet: &Fleet, verdict: &Verdict) {
    let folder = verdict.logs();
    std::fs::create_dir_all(&folder).expect("make a folder for the logs");
    for name in names(fleet.site.path()).iter().filter(|name| name.ends_with(".log")) {
        std::fs::copy(fleet.site.path().join(name), folder.join(name)).expect("keep a log");
    }
    std::fs::copy(&fleet.tally, folder.join("tally")).expect("keep the tally");
    std::fs::write(folder.join("verdict"), verdict.to_string()).expect("keep the verdict");
}
