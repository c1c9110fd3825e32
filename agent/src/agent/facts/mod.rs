//! Facts about the host: what the agent finds out itself, and what files and programs in `facts.d`
//! report.
//!
//! A process of its own collects them, so that a program that hangs, or a file system that does, holds up
//! nothing else.

mod built_in;
mod custom;
mod program;
mod watcher;

use std::path::Path;

use muster_protocol::facts::{
    FactCollection, FactError, FactReport, MAX_FACT_ERROR_CHARS, MAX_FACT_ERRORS,
};

pub use self::custom::FactFile;
pub use self::watcher::watch;
use crate::policy::{Policy, PolicyFile};
use crate::storage::layout::StateDir;

/// Collects the facts of this host within the bounds of a report. Runs programs, and must be the only
/// work of this process: it ends all its children.
///
/// # Errors
/// A sentence that explains why nothing is collected.
pub fn collect(state_dir: &Path, watches_input: bool) -> Result<FactReport, String> {
    let state = StateDir::at(state_dir);
    let file = PolicyFile::open(&state);
    let policy = file.current()?;
    let mut draft = FactDraft { policy, facts: FactCollection::default(), errors: Vec::new() };
    if !policy.withholds_all_facts() {
        for (name, values) in built_in::collect() {
            draft.add("built-in", &name, values);
        }
        custom::collect(&state, &mut draft, watches_input);
    }
    Ok(FactReport { facts: draft.facts.into_facts(), errors: draft.errors })
}

/// The files of `facts.d`, and why one is not used.
pub fn files(state: &StateDir) -> Vec<FactFile> {
    custom::files(state)
}

/// A report that is being made.
struct FactDraft<'a> {
    policy: &'a Policy,
    facts: FactCollection,
    errors: Vec<FactError>,
}

impl FactDraft<'_> {
    /// Adds a fact, unless the policy withholds it. The first of a name counts.
    fn add(&mut self, source: &str, name: &str, values: Vec<String>) {
        if self.policy.withholds(name) {
            return;
        }
        if self.facts.contains(name) {
            self.fail(source, &format!("`{name}` is reported already"));
        } else if let Err(problem) = self.facts.add(name, values) {
            let name: String = name.chars().take(40).collect();
            self.fail(source, &format!("`{name}`: {problem}"));
        }
    }

    fn fail(&mut self, source: &str, error: &str) {
        let cut = |text: &str| text.chars().take(MAX_FACT_ERROR_CHARS).collect();
        if self.errors.len() < MAX_FACT_ERRORS {
            self.errors.push(FactError { source: cut(source), error: cut(error) });
        }
    }
}
