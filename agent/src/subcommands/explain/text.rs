//! The explanation in plain words.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use muster_protocol::escape::for_terminal;
use muster_protocol::frame::Outcome;
use muster_protocol::parameter::secret_parameters::SecretDelivery;

use super::{ApprovalEntry, Explanation, Failure, ParameterEntry, RequestEntry, ScriptEntry};
use crate::agent::request_log::Answer;
use crate::subcommands::status::AgentState;

impl Explanation {
    /// Text for people. Names and texts that others chose are escaped.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{line}");
        };
        let server = self.server_url.as_deref().map_or("no server yet".to_owned(), for_terminal);
        let state = match self.agent_state {
            AgentState::Connected => "connected",
            AgentState::Disconnected => "running, not connected",
            AgentState::Stopped => "not running",
        };
        line(format!(
            "Server: {server}. The agent is {state}. Its state is in {}.",
            self.state_dir
        ));
        line(String::new());
        line("What the server can do on this host".to_owned());
        if let Some(error) = &self.policy_error {
            line(format!("  Nothing at the moment: {}", for_terminal(error)));
        }
        if let Some(error) = &self.manifest_error {
            line(format!("  The manifest is not in force: {}.", for_terminal(error)));
            line("  An agent that is running keeps the last valid one.".to_owned());
        }
        let user = for_terminal(&self.runs_as);
        match self.scripts.len() {
            0 => line("  Run scripts: none is listed.".to_owned()),
            count => line(format!("  Run these {count} scripts as the user {user}:")),
        }
        self.scripts.iter().for_each(|script| script_lines(script, &mut line));
        line(match self.ad_hoc_commands {
            true => format!("  Run ANY program with any arguments as {user} (policy \"shell\")."),
            false => "  Run other programs: no.".to_owned(),
        });
        line(match self.library {
            true => match &self.publishers {
                Some(keys) => format!(
                    "  Run scripts and packages of its library as {user}, if one of these publishers has signed the version: {}.",
                    keys.join(", ")
                ),
                None => format!("  Run ANY script of its library as {user}, signed or not."),
            },
            false => "  Run scripts of its library: no.".to_owned(),
        });
        for (verb, folders) in [("Write", &self.writable_folders), ("Read", &self.readable_folders)]
        {
            line(match folders.is_empty() {
                true => format!("  {verb} files: no."),
                false => {
                    format!("  {verb} files as {user} in {}.", for_terminal(&folders.join(", ")))
                }
            });
        }
        let named = |is_allowed: bool| {
            let entries = self.life_cycle.iter().filter(|entry| entry.is_allowed == is_allowed);
            let names: Vec<_> = entries.map(|entry| entry.name).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        line(format!("  Manage the agent: {}. Forbidden: {}.", named(true), named(false)));
        if let Some(needed) = &self.needs_approval {
            line(approval_line(needed));
        }
        line(self.release_line());
        line(String::new());
        line("What it receives".to_owned());
        line("  The output of everything that it runs, with secret parameters masked, and facts about the host:".to_owned());
        line("  name, address, system, load, this list of scripts, and what `muster-agent facts` shows.".to_owned());
        if !self.withheld_facts.is_empty() {
            let names = for_terminal(&self.withheld_facts.join(", "));
            line(format!("  Not reported (withheld_facts): {names}."));
        }
        for file in &self.fact_files {
            let name = for_terminal(&file.name);
            line(match (&file.problem, file.is_program) {
                (Some(problem), _) => {
                    format!("  facts.d/{name}: not used: {}", for_terminal(problem))
                }
                (None, true) => format!("  facts.d/{name}: run as {user}; its output is reported."),
                (None, false) => format!("  facts.d/{name}: its content is reported."),
            });
        }
        line(String::new());
        let limits = &self.limits;
        line("Limits".to_owned());
        line(format!(
            "  {} executions at once, each at most {}; {} commands that have not ended or are not acknowledged.",
            limits.max_executions,
            duration(limits.max_timeout_ms),
            limits.max_commands
        ));
        line(format!(
            "  {} MiB of output of one execution, {} MiB of all together.",
            limits.output_limit_bytes >> 20,
            limits.output_quota_bytes >> 20
        ));
        line(String::new());
        line(format!("Running now: {}", self.running.len()));
        for execution in &self.running {
            line(format!("  {}", for_terminal(&execution.title())));
        }
        line(String::new());
        line(match self.requests.len() {
            0 => "What it asked for lately: nothing is recorded".to_owned(),
            count => format!("What it asked for lately ({count}, newest first)"),
        });
        self.requests.iter().for_each(|request| line(request_line(request)));
        text
    }

    fn release_line(&self) -> String {
        let releases = &self.releases;
        if releases.program_dir.is_none() {
            return "  Install releases: this program was not installed by deploy.sh.".to_owned();
        }
        if let Some(error) = &releases.error {
            return format!("  Install releases: no, because {}", for_terminal(error));
        }
        let key = match &releases.key {
            Some(key) => format!("signed by the key {}", for_terminal(key)),
            None => "signed by the first key that arrives over verified TLS".to_owned(),
        };
        let floor = match &releases.lowest_version {
            Some(version) => format!(", version {} or later", for_terminal(version)),
            None => String::new(),
        };
        format!("  Install releases: only {key}{floor}.")
    }
}

fn approval_line(needed: &ApprovalEntry) -> String {
    let scripts = match &needed.scripts {
        None => Some("every script".to_owned()),
        Some(names) if names.is_empty() => None,
        Some(names) => {
            let names: Vec<_> = names.iter().map(|name| for_terminal(name)).collect();
            Some(format!("the scripts {}", names.join(", ")))
        }
    };
    let ad_hoc = needed.ad_hoc.then(|| "other programs".to_owned());
    let life_cycle = needed.life_cycle.then(|| "commands that manage the agent".to_owned());
    let what: Vec<_> = [scripts, ad_hoc, life_cycle].into_iter().flatten().collect();
    let what = if what.is_empty() { "nothing".to_owned() } else { what.join(", ") };
    format!("  Only with the signature of {}: {what}.", needed.approvers.join(" or "))
}

fn script_lines(script: &ScriptEntry, line: &mut impl FnMut(String)) {
    let name = for_terminal(&script.name);
    let parameters = match (script.any_parameters, script.parameters.len()) {
        (true, _) => "ANY parameter, which can change what its programs do".to_owned(),
        (false, 0) => "no parameters".to_owned(),
        (false, _) => {
            let shown: Vec<_> =
                script.parameters.iter().map(|it| parameter(it, script.secrets)).collect();
            format!("parameters {}", shown.join(", "))
        }
    };
    let pinned = if script.is_pinned { "; the file's hash is fixed" } else { "" };
    let input = if script.stdin { "; any standard input" } else { "" };
    let time = duration(script.timeout_ms);
    line(format!("    {name}: {parameters}{input}; at most {time}{pinned}"));
    if let Some(problem) = &script.problem {
        line(format!("      can't start: {}", for_terminal(problem)));
    }
}

fn parameter(parameter: &ParameterEntry, secrets: SecretDelivery) -> String {
    let mut notes = Vec::new();
    if parameter.required {
        notes.push("required".to_owned());
    }
    match (parameter.secret, secrets) {
        (true, SecretDelivery::File) => notes.push("secret, as a file".to_owned()),
        (true, SecretDelivery::Environment) => notes.push("secret".to_owned()),
        (false, _) => {}
    }
    if !parameter.choices.is_empty() {
        let choices: Vec<_> = parameter.choices.iter().map(|choice| for_terminal(choice)).collect();
        notes.push(format!("one of {}", choices.join(" | ")));
    }
    match notes.as_slice() {
        [] => parameter.name.clone(),
        notes => format!("{} ({})", parameter.name, notes.join("; ")),
    }
}

fn request_line(entry: &RequestEntry) -> String {
    let record = &entry.record;
    let at = record.at.to_rfc3339_opts(SecondsFormat::Secs, true);
    // These texts were escaped when they were recorded.
    let what = record.script.as_ref().or(record.program.as_ref()).or(record.version.as_ref());
    let steps = (!record.steps.is_empty()).then(|| record.steps.join(", "));
    let what = steps.as_ref().or(what);
    let what = what.map(|what| format!(" {what}")).unwrap_or_default();
    let secrets = record.secret_parameters.iter().map(|name| format!("secret {name}"));
    let more = (record.more_parameters > 0).then(|| format!("and {} more", record.more_parameters));
    let names: Vec<_> = record.parameters.iter().cloned().chain(secrets).chain(more).collect();
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let answer = match (record.answer, entry.outcome) {
        (Answer::Refused, _) => {
            let code = record.code.as_deref().unwrap_or_default();
            format!("REFUSED {code}: {}", record.reason.as_deref().unwrap_or_default())
        }
        (Answer::Accepted, Some(outcome)) => {
            format!("accepted, {}{}", outcome_word(outcome), because(entry.failure.as_ref()))
        }
        (Answer::Accepted, None) => "accepted".to_owned(),
    };
    let unlisted = match record.unlisted {
        0 => String::new(),
        count => format!(" ({count} more like it before)"),
    };
    format!("  {at}  {}{what}{names}: {answer}{unlisted}", record.request)
}

fn because(failure: Option<&Failure>) -> String {
    let Some(Failure { code, reason }) = failure else { return String::new() };
    let reason = reason.as_deref().map(|reason| format!(": {reason}"));
    let code = code.as_deref().map(|code| format!(" ({})", for_terminal(code)));
    format!("{}{}", reason.unwrap_or_default(), code.unwrap_or_default())
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timed out",
        Outcome::Cancelled => "cancelled",
        Outcome::Expired => "expired",
        Outcome::Rejected => "rejected",
        Outcome::Lost => "its result is lost",
    }
}

fn duration(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
