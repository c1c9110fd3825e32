//! One call of a script with a trigger: the files that its two parts share, the decision of the trigger, and
//! the new data.
//!
//! The files belong to the user that the script runs as, who may put anything in their place. So they are
//! read without following links, and only if they are plain files of this user.

use std::ffi::OsString;
use std::path::PathBuf;

use muster_protocol::library::{
    CallDataProblem, CallPart, CallReport, MAX_CALL_DATA_BYTES, TriggerCall, check_call_data,
};

use super::Execution;
use crate::executions::program::Program;
use crate::executions::secret_files;
use crate::platform::Account;

/// The variable with the part that runs: `trigger` or `main`.
pub const PART: &str = "MUSTER_PART";
/// No parameter has such a name.
const DATA: &str = "muster-data.json";
const DECISION: &str = "muster-decision";
/// The decision of a trigger that main runs.
const RUN_MAIN: &[u8] = b"run";
const MAX_DECISION_BYTES: usize = 64;
/// Calls `trigger(data)` or `main(data)` of a script in Python.
const PYTHON_PART: &str = include_str!("call.py");

/// Where the two parts of a call find their files.
pub struct CallFiles {
    data: PathBuf,
    decision: PathBuf,
}

/// The files of a call, by name.
pub fn files(call: &TriggerCall) -> [(&'static str, &[u8]); 2] {
    [(DATA, call.data.as_bytes()), (DECISION, b"")]
}

impl CallFiles {
    /// Separates the files of a call from those of secrets.
    pub fn split(
        mut written: Vec<(String, PathBuf)>,
        is_call: bool,
    ) -> (Option<Self>, Vec<(String, PathBuf)>) {
        let mut take = |name: &str| {
            let at = written.iter().position(|(known, _)| is_call && known == name)?;
            Some(written.remove(at).1)
        };
        let files = take(DATA).zip(take(DECISION));
        (files.map(|(data, decision)| Self { data, decision }), written)
    }

    /// The variables of both parts.
    pub fn variables(&self, call: &TriggerCall) -> Vec<(OsString, OsString)> {
        let is = |value: bool| OsString::from(if value { "true" } else { "false" });
        vec![
            ("MUSTER_DATA_FILE".into(), self.data.clone().into()),
            ("MUSTER_DECISION_FILE".into(), self.decision.clone().into()),
            ("MUSTER_FIRST_CALL".into(), is(call.is_first)),
            ("MUSTER_FORCED".into(), is(call.is_forced)),
        ]
    }
}

/// The same script as functions: the interpreter runs the caller of the functions instead of the script.
pub fn python_part(mut program: Program) -> Program {
    program.arguments.splice(0..0, ["-c".into(), PYTHON_PART.into()]);
    program
}

/// True if the trigger has decided that main runs.
pub fn runs_main(execution: &Execution, account: Option<&Account>) -> bool {
    let read = secret_files::read(&execution.dir, DECISION, account, MAX_DECISION_BYTES);
    read.is_ok_and(|bytes| bytes.trim_ascii() == RUN_MAIN)
}

/// What the server gets to know about a call that has ended. Only a call that succeeded changes the data.
pub fn report(
    execution: &Execution,
    account: Option<&Account>,
    call: &TriggerCall,
    last_part: Option<CallPart>,
    is_success: bool,
) -> CallReport {
    let (data, data_problem) = match is_success.then(|| new_data(execution, account)) {
        None => (None, None),
        Some(Ok(data)) => (Some(data), None),
        Some(Err(problem)) => (None, Some(problem)),
    };
    CallReport { data_version: call.data_version, last_part, data, data_problem }
}

fn new_data(execution: &Execution, account: Option<&Account>) -> Result<String, CallDataProblem> {
    // One byte more shows that there is too much.
    let read = secret_files::read(&execution.dir, DATA, account, MAX_CALL_DATA_BYTES + 1);
    check_call_data(&read.map_err(|_| CallDataProblem::Missing)?)
}
