//! What the server asked for lately, for the owner of the host, in the state directory.
//!
//! A line of JSON for each durable command, cancellation, replacement of the key, desired version
//! and result of an update, with the agent's answer. Three logs, so that none pushes out another:
//! `requests.log` (accepted), `requests-refused.log`, and `requests-life-cycle.log` for what
//! restarts, replaces or stops the agent or its key. Each has two files of bounded size: the newer
//! one replaces the older one when it is full. Of refusals, the newest of each kind stay and the others are
//! counted. A line is bounded too. No values of parameters are
//! written. Texts of the server are escaped, so that they can be shown on a terminal. The logs are
//! for people: nothing is decided by them, and a full disk loses lines.

mod file;
mod record;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use file::read_newest;
use file::{Full, LogFile};
pub use record::{Answer, REKEY, RequestRecord};

use crate::storage::layout::StateDir;

/// Time in which life-cycle requests with the same answer are written once and then counted.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// The code of refusals that are written once, however many follow each other.
const FLOOD: &str = "too_many_commands";
/// Writes the logs.
#[derive(Debug)]
pub struct RequestLog {
    accepted: LogFile,
    refused: LogFile,
    life_cycle: LogFile,
    is_flooded: bool,
    /// When each kind of life-cycle request was last written, and how many followed.
    repeats: BTreeMap<(String, Answer, Option<String>), (Instant, u64)>,
}

impl RequestLog {
    /// Prepares the logs of this state directory; a file is created with its first line.
    pub fn new(state: &StateDir) -> Self {
        let [accepted, refused, life_cycle] = state.requests();
        let accepted = LogFile::new(accepted, Full::Drop);
        let refused = LogFile::new(refused, Full::Summarise);
        let life_cycle = LogFile::new(life_cycle, Full::Drop);
        Self { accepted, refused, life_cycle, is_flooded: false, repeats: BTreeMap::new() }
    }

    /// Appends a record. A line survives the end of the agent's process; a refusal and a life-cycle
    /// request also survive a power loss. What else was accepted is in the ledger.
    pub fn append(&mut self, record: &RequestRecord) {
        if record.is_life_cycle() {
            self.append_life_cycle(record, Instant::now());
            return;
        }
        let is_flood = record.code.as_deref() == Some(FLOOD);
        if is_flood && self.is_flooded {
            return;
        }
        self.is_flooded = is_flood;
        match record.answer {
            Answer::Accepted => self.accepted.append(record, false),
            Answer::Refused => self.refused.append(record, !is_flood),
        }
    }

    fn append_life_cycle(&mut self, record: &RequestRecord, now: Instant) {
        let kind = (record.request.clone(), record.answer, record.code.clone());
        let unlisted = match self.repeats.get_mut(&kind) {
            Some((at, count)) if now.duration_since(*at) < REPEAT_INTERVAL => {
                *count += 1;
                return;
            }
            Some((_, count)) => *count,
            None => 0,
        };
        self.repeats.insert(kind, (now, 0));
        self.life_cycle.append(&RequestRecord { unlisted, ..record.clone() }, true);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::file::{MAX_FILE_BYTES, older};
    use super::record::MAX_TEXT_BYTES;
    use super::record::tests::execute;
    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        (folder, state)
    }

    fn requests(state: &StateDir, count: usize) -> Vec<String> {
        let newest = read_newest(state, count).expect("readable");
        newest.into_iter().map(|record| record.request).collect()
    }

    fn bytes_of(state: &StateDir) -> u64 {
        let paths = state.requests().into_iter().flat_map(|path| [older(&path), path]);
        paths.map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum()
    }

    #[test]
    fn the_log_is_bounded_and_its_newest_lines_are_read_back_in_order() {
        let (_folder, state) = state();
        assert_eq!(read_newest(&state, 3).expect("no log yet"), []);
        let record = |number: u32| RequestRecord {
            parameters: vec!["P".repeat(300); 32],
            ..RequestRecord::accepted(&format!("command {number}"))
        };
        let mut log = RequestLog::new(&state);
        for number in 0..300 {
            log.append(&record(number));
        }
        // A later process continues it.
        RequestLog::new(&state).append(&record(300));
        let expected: Vec<_> =
            (241..=300).rev().map(|number| format!("command {number}")).collect();
        assert_eq!(requests(&state, 60), expected);
        assert!(bytes_of(&state) < 2 * MAX_FILE_BYTES + 100_000);
    }

    #[test]
    fn a_flood_of_refusals_takes_one_line_and_texts_of_the_server_are_escaped() {
        let (_folder, state) = state();
        let mut log = RequestLog::new(&state);
        let refused = RequestRecord::accepted("execute").refused(FLOOD, "full");
        for _ in 0..100 {
            log.append(&refused);
        }
        log.append(&RequestRecord::accepted("\u{1b}[2J\u{202e}evil"));
        assert_eq!(requests(&state, 10), ["\\u{1b}[2J\\u{202e}evil", "execute"]);
    }

    #[test]
    fn no_flood_pushes_a_life_cycle_request_out() {
        let (_folder, state) = state();
        let mut log = RequestLog::new(&state);
        let shutdown = RequestRecord::accepted("shutdown").refused("forbidden_by_policy", "no");
        log.append(&shutdown);
        let long = "x".repeat(MAX_TEXT_BYTES);
        let refused = RequestRecord { script: Some(long), ..execute("unknown", 40) };
        for _ in 0..3_000 {
            // As `append` does, without a sync.
            log.refused.append(&refused, false);
            log.append(&shutdown);
        }
        log.append(&refused);
        let life_cycle = fs::read_to_string(&state.requests()[2]).expect("the log");
        assert_eq!(life_cycle.lines().count(), 1, "{life_cycle}");
        assert!(bytes_of(&state) < 3 * MAX_FILE_BYTES);
        // The repeated ones are counted by the next line.
        log.append_life_cycle(&shutdown, Instant::now() + REPEAT_INTERVAL);
        let life_cycle = fs::read_to_string(&state.requests()[2]).expect("the log");
        assert!(life_cycle.ends_with("\n") && life_cycle.contains("\"unlisted\":3000"));
    }

    #[test]
    fn a_flood_of_one_kind_of_refusal_is_counted_and_pushes_out_no_other() {
        let (_folder, state) = state();
        let mut log = RequestLog::new(&state);
        let other = RequestRecord::accepted("execute").refused("forbidden_by_policy", "no shell");
        log.append(&other);
        let flood = RequestRecord { code: Some("unknown_script".into()), ..execute("unknown", 40) };
        let unknown = |number: u32| RequestRecord {
            request: format!("command {number}"),
            code: Some("unknown_command".into()),
            ..flood.clone()
        };
        for number in 0..3_000 {
            // As `append` does, without a sync.
            log.refused.append(&flood, false);
            log.refused.append(&unknown(number), false);
        }
        let records = read_newest(&state, 10_000).expect("readable");
        let count = |code: &str| {
            let kind = records.iter().filter(|record| record.code.as_deref() == Some(code));
            kind.map(|record| record.unlisted + 1).sum::<u64>()
        };
        assert_eq!(count("forbidden_by_policy"), 1, "it is still there");
        assert_eq!((count("unknown_script"), count("unknown_command")), (3_000, 3_000));
        assert!(records.len() < 1_000, "{}", records.len());
        assert!(bytes_of(&state) < 2 * MAX_FILE_BYTES + 100_000);
    }
}
