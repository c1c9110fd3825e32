//! What must hold for one execution after any faults: a pure function of the request, the state on
//! the server, the host's start log, and the processes that were killed.

use std::fmt;

use serde_json::Value;
use uuid::Uuid;

use super::plan::{End, Submission};
use crate::agents::scripts::sha256;

/// A guarantee that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// It starts at most once.
    StartsOnce,
    /// An execution that is reported as not started has not started, and one that is reported as
    /// ended has started.
    StartIsKnown,
    /// Its output is byte-exact, and complete or marked as incomplete.
    OutputIsExact,
    /// It is lost only if its shim or its host was killed.
    LostHasAReason,
    /// Its final state is possible for this script and this request.
    StateIsTrue,
    /// It ends exactly once.
    EndsOnce,
    /// A repeated submission counts once.
    SubmittedOnce,
    /// The API answers as documented.
    AnswersAsSaid,
    /// No process, file, row or secret is left over.
    NothingIsLeft,
}

/// A broken guarantee and the evidence.
#[derive(Debug, Clone)]
pub struct Violation {
    pub promise: Promise,
    pub what: String,
}

impl Violation {
    pub fn new(promise: Promise, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// Everything that is known about one execution after the run.
#[derive(Debug)]
pub struct Execution<'a> {
    pub id: Uuid,
    /// The command in the API.
    pub command: &'a Value,
    pub submission: &'a Submission,
    /// Its lines in the start log.
    pub begun: usize,
    /// Its shim was killed, or its host lost power.
    pub may_be_lost: bool,
    /// Its output on the server: stdout, stderr, and both in the order they were read.
    pub output: [Vec<u8>; 3],
}

/// Checks one execution.
pub fn check(execution: &Execution<'_>) -> Vec<Violation> {
    let mut bench = Bench { execution, found: vec![] };
    if execution.begun > 1 {
        bench.find(Promise::StartsOnce, &format!("it started {} times", execution.begun));
    }
    bench.state();
    bench.output();
    bench.found
}

struct Bench<'a> {
    execution: &'a Execution<'a>,
    found: Vec<Violation>,
}

impl Bench<'_> {
    fn find(&mut self, promise: Promise, what: &str) {
        let Execution { command, submission, .. } = self.execution;
        let what = format!("{what}\n    {command}\n    {submission:?}");
        self.found.push(Violation::new(promise, what));
    }

    fn expect(&mut self, is_kept: bool, promise: Promise, what: &str) {
        if !is_kept {
            self.find(promise, what);
        }
    }

    fn text(&self, field: &str) -> &str {
        self.execution.command[field].as_str().unwrap_or_default()
    }

    fn state(&mut self) {
        use Promise::{LostHasAReason, StartIsKnown, StateIsTrue};
        let Execution { submission, begun, may_be_lost, command, .. } = *self.execution;
        let is_listed = !submission.is_unlisted;
        let exit_code = command["result"]["exit_code"].as_u64();
        let never = "it is said not to have started, and did";
        match self.text("state") {
            "succeeded" => {
                let fits = is_listed && submission.end == End::Succeeds && exit_code == Some(0);
                self.expect(fits, StateIsTrue, "it can't have succeeded");
                self.expect(begun > 0, StartIsKnown, "it succeeded and never started");
            }
            "failed" if self.text("error_code") == "not_started" => {
                self.expect(may_be_lost, StateIsTrue, "its shim was not kept from starting it");
                self.expect(begun == 0, StartIsKnown, never);
            }
            "failed" => {
                let fits =
                    matches!(submission.end, End::Fails(code) if exit_code == Some(code.into()));
                self.expect(is_listed && fits, StateIsTrue, "it can't have failed like this");
                self.expect(begun > 0, StartIsKnown, "it failed by itself and never started");
            }
            "timed_out" => {
                let fits = is_listed && submission.end == End::RunsOutOfTime;
                self.expect(fits, StateIsTrue, "it had time enough");
            }
            "cancelled" => {
                let is_asked = submission.cancel_after.is_some();
                self.expect(is_asked, StateIsTrue, "its end was not requested");
                let is_unstarted = exit_code.is_none() && command["result"]["signal"].is_null();
                self.expect(!is_unstarted || begun == 0, StartIsKnown, never);
            }
            "expired" => {
                let is_short = submission.expires_in_ms < super::plan::AMPLE_MS;
                self.expect(is_short, StateIsTrue, "it had time enough to start");
                self.expect(begun == 0, StartIsKnown, never);
            }
            "rejected" => {
                self.expect(submission.is_unlisted, StateIsTrue, "it is in the host's manifest");
                self.expect(begun == 0, StartIsKnown, never);
            }
            "lost" => self.expect(may_be_lost, LostHasAReason, "its shim was not killed"),
            other => {
                let what = format!("`{other}` is no end");
                self.find(Promise::EndsOnce, &what);
            }
        }
    }

    fn output(&mut self) {
        let Execution { id, submission, begun, ref output, command, .. } = *self.execution;
        let result = &command["result"];
        let nothing = [vec![], vec![]];
        let printed = if begun == 0 { nothing } else { submission.print.streams(id) };
        let is_prefix = (0..2).all(|stream| printed[stream].starts_with(&output[stream]));
        self.expect(is_prefix, Promise::OutputIsExact, "what is stored was not printed");
        if output[2].len() != output[0].len() + output[1].len() {
            self.find(Promise::OutputIsExact, "the streams are not what both are together");
        }
        let has_ended = matches!(self.text("state"), "succeeded" | "failed") && begun > 0;
        if has_ended && (output[..2] != printed || result["output_complete"] != true) {
            self.find(Promise::OutputIsExact, &format!("{} bytes are stored", output[2].len()));
        }
        // The host and the server must agree on the size, unless the execution is marked as
        // incomplete.
        if result["output_complete"] == true {
            let counted = ["stdout_bytes", "stderr_bytes", "output_bytes"];
            let fits = (0..3).all(|part| result[counted[part]] == output[part].len());
            self.expect(fits, Promise::OutputIsExact, "the host counted otherwise");
            let hash = result["output_sha256"].as_str();
            let is_same = hash.is_none_or(|hash| hash == sha256(&output[2]));
            self.expect(is_same, Promise::OutputIsExact, "the hash is another");
            let has_hash = !has_ended || hash.is_some();
            self.expect(has_hash, Promise::OutputIsExact, "the hash is missing");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chaos::plan::{AMPLE_MS, Target};
    use crate::chaos::print::Print;

    fn submission(end: End) -> Submission {
        Submission {
            place: Target::Host(0),
            print: Print::Both,
            end,
            stay_ms: 0,
            timeout_ms: AMPLE_MS,
            expires_in_ms: AMPLE_MS,
            is_unlisted: false,
            has_secret: false,
            cancel_after: None,
        }
    }

    fn found(command: &Value, end: End, begun: usize, output: [Vec<u8>; 3]) -> Vec<Promise> {
        let submission = submission(end);
        let (id, may_be_lost) = (Uuid::nil(), false);
        let execution =
            Execution { id, command, submission: &submission, begun, may_be_lost, output };
        check(&execution).into_iter().map(|violation| violation.promise).collect()
    }

    fn whole() -> [Vec<u8>; 3] {
        let [stdout, stderr] = Print::Both.streams(Uuid::nil());
        let both = [stdout.clone(), stderr.clone()].concat();
        [stdout, stderr, both]
    }

    fn succeeded() -> Value {
        let [stdout, stderr, both] = whole();
        let result = json!({
            "exit_code": 0,
            "output_complete": true,
            "stdout_bytes": stdout.len(),
            "stderr_bytes": stderr.len(),
            "output_bytes": both.len(),
            "output_sha256": sha256(&both),
        });
        json!({"state": "succeeded", "result": result})
    }

    #[test]
    fn what_succeeded_once_and_whole_is_in_order() {
        assert_eq!(found(&succeeded(), End::Succeeds, 1, whole()), []);
    }

    #[test]
    fn a_second_start_a_missing_one_and_one_byte_less_are_each_found() {
        let none = [vec![], vec![], vec![]];
        assert_eq!(found(&succeeded(), End::Succeeds, 2, whole()), [Promise::StartsOnce]);
        assert!(found(&succeeded(), End::Succeeds, 0, none).contains(&Promise::StartIsKnown));
        let mut short = whole();
        short[0].pop();
        short[2].pop();
        assert!(found(&succeeded(), End::Succeeds, 1, short).contains(&Promise::OutputIsExact));
    }

    #[test]
    fn a_state_that_nothing_leads_to_is_found() {
        let none = || [vec![], vec![], vec![]];
        let lost = json!({"state": "lost"});
        assert_eq!(found(&lost, End::Succeeds, 1, none()), [Promise::LostHasAReason]);
        let expired = json!({"state": "expired"});
        assert!(found(&expired, End::Succeeds, 1, none()).contains(&Promise::StartIsKnown));
        let running = json!({"state": "running"});
        assert_eq!(found(&running, End::Succeeds, 1, none()), [Promise::EndsOnce]);
        assert_eq!(found(&succeeded(), End::Fails(1), 1, whole()), [Promise::StateIsTrue]);
    }
}
