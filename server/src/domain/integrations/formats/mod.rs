//! How each kind of integration writes an event: pure functions from one message to the provider's JSON.
//!
//! Hosts report some of the texts, so each format writes them as plain text, and cuts them to what the
//! provider takes.

pub mod datadog;
pub mod discord;
pub mod pagerduty;
#[cfg(test)]
mod samples;
pub mod slack;
pub mod splunk;
pub mod teams;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use uuid::Uuid;

use super::event_type::{EventType, Severity};
use crate::domain::name::clean;
use crate::domain::time::Timestamp;

/// Longest value of a fact.
const MAX_FACT_CHARS: usize = 256;
/// Most names that a message for several resources lists.
const MAX_LISTED: usize = 20;

/// An event to send.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMessage {
    /// Of the delivery: the same for every attempt.
    pub id: String,
    pub event: EventType,
    pub at: Timestamp,
    /// The resource that it is about.
    pub subject_id: Uuid,
    /// One line.
    pub title: String,
    /// The text of a template, which replaces the facts.
    pub text: Option<String>,
    /// Label and value.
    pub facts: Vec<(&'static str, String)>,
    /// Everything that is known, without secrets.
    pub data: Value,
    /// Where the dashboard shows it.
    pub link: Option<String>,
}

impl EventMessage {
    /// A message with its title and facts from the data. `others`: names of further resources that the
    /// message is about. `repeat_count`: events that it reports beside its own.
    pub fn new(
        (id, event, at, subject_id): (String, EventType, Timestamp, Uuid),
        data: Value,
        others: &[String],
        repeat_count: i32,
        server: Option<&str>,
    ) -> Self {
        let mut facts = facts(&data);
        if !others.is_empty() {
            let listed: Vec<_> = others.iter().take(MAX_LISTED).map(|name| shown(name)).collect();
            let more = others.len().saturating_sub(MAX_LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            facts.push(("Also", format!("{}{more}", listed.join(", "))));
        }
        if repeat_count > 0 {
            facts.push(("Repeated", format!("{repeat_count} further events are not listed")));
        }
        let title = title(event, &data, others.len() + 1);
        let link = server.and_then(|server| link(server, event, subject_id));
        Self { id, event, at, subject_id, title, text: None, facts, data, link }
    }

    /// The webhook's body, by the Standard Webhooks specification.
    pub fn standard_webhook(&self) -> Value {
        json!({"type": self.event, "timestamp": self.at, "data": self.data})
    }

    /// The text without markup: of the template, or the facts.
    pub fn plain_text(&self) -> String {
        let facts = || {
            let lines = self.facts.iter().map(|(label, value)| format!("{label}: {value}"));
            lines.collect::<Vec<_>>().join("\n")
        };
        self.text.clone().unwrap_or_else(facts)
    }

    /// What joins the messages that open and end one problem, such as `muster-agent-…`.
    pub fn problem_key(&self) -> String {
        let suffix = match self.event {
            EventType::IdentityAlert => "-identity",
            EventType::UpdateRolledBack => "-update",
            EventType::ScheduleUnusualDuration => "-duration",
            _ => "",
        };
        format!("muster-{}-{}{suffix}", self.event.resource(), self.subject_id)
    }

    /// As RGB.
    fn color(&self) -> u32 {
        match self.event.severity() {
            Severity::Info => 0x005b_6ee1,
            Severity::Resolved => 0x002e_a043,
            Severity::Warning => 0x00d2_9922,
            Severity::Error => 0x00cf_222e,
        }
    }
}

/// Text of others, in one line.
fn shown(text: &str) -> String {
    clean(text, MAX_FACT_CHARS)
}

/// The first characters of a text.
fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn at<'a>(data: &'a Value, path: &str) -> Option<&'a str> {
    data.pointer(path).and_then(Value::as_str)
}

fn title(event: EventType, data: &Value, count: usize) -> String {
    let agent = || shown(at(data, "/agent/name").unwrap_or("an agent"));
    let job =
        || shown(at(data, "/job/script").filter(|name| !name.is_empty()).unwrap_or("command"));
    let schedule = || shown(at(data, "/schedule_name").unwrap_or("a schedule"));
    let rule = || shown(at(data, "/rule_name").unwrap_or("a rule"));
    match event {
        EventType::AlertOpened if data["agent"].is_object() => {
            format!("Alert {} of agent {}", rule(), agent())
        }
        EventType::AlertResolved if data["agent"].is_object() => {
            format!("Alert {} of agent {} is resolved", rule(), agent())
        }
        EventType::AlertOpened => format!("Alert {}", rule()),
        EventType::AlertResolved => format!("Alert {} is resolved", rule()),
        EventType::CertificateExpiring if data["agent"].is_object() => {
            format!("The certificate of agent {} was not renewed", agent())
        }
        EventType::CertificateExpiring if data["holder"] == "server" => {
            "The certificate of the server expires soon".to_owned()
        }
        EventType::CertificateExpiring if data["holder"] == "authority" => {
            "The authority of the server expires soon".to_owned()
        }
        EventType::CertificateExpiring => "A certificate expires soon".to_owned(),
        EventType::KeyExpiring => {
            format!(
                "The key {} expires soon",
                shown(at(data, "/key_name").unwrap_or("of a caller"))
            )
        }
        EventType::ScheduleUnusualDuration => {
            format!("Schedule {} took an unusual time", schedule())
        }
        EventType::AgentOffline if count > 1 => format!("{count} agents are offline"),
        EventType::AgentOnline if count > 1 => format!("{count} agents are online"),
        EventType::AgentEnrolled if count > 1 => format!("{count} agents enrolled"),
        EventType::AgentOffline => format!("Agent {} is offline", agent()),
        EventType::AgentOnline => format!("Agent {} is online", agent()),
        EventType::AgentEnrolled => format!("Agent {} enrolled", agent()),
        EventType::IdentityAlert => format!("Agent {} has an identity alert", agent()),
        EventType::UpdateRolledBack => format!("Agent {} rolled an update back", agent()),
        EventType::JobSucceeded => format!("Job {} succeeded", job()),
        EventType::JobFailed => format!("Job {} failed", job()),
        EventType::JobCancelled => format!("Job {} was cancelled", job()),
        EventType::RolloutHalted => format!("The rollout of job {} halted", job()),
        EventType::ScheduleMissed => format!("Schedule {} missed due times", schedule()),
        EventType::ScheduleFailed => format!("Schedule {} failed", schedule()),
        EventType::ScheduleRecovered => format!("Schedule {} works again", schedule()),
        EventType::ScheduleStopped => format!("Schedule {} was stopped", schedule()),
        EventType::ApprovalRequested => "Work waits for an approval".to_owned(),
        EventType::IntegrationTest => "Test message of Muster".to_owned(),
    }
}

/// The values of the data that people read, in this order.
fn facts(data: &Value) -> Vec<(&'static str, String)> {
    const FACTS: [(&str, &str); 23] = [
        ("Host", "/agent/hostname"),
        ("Alert", "/alert"),
        ("Detail", "/detail"),
        ("From version", "/from_version"),
        ("To version", "/to_version"),
        ("Message", "/message"),
        ("Reason", "/reason"),
        ("State", "/job/state"),
        ("Agents", "/job/agent_count"),
        ("Succeeded", "/job/counts/succeeded"),
        ("Failed", "/job/counts/failed"),
        ("Missed", "/missed_count"),
        ("Last due", "/last_due_at"),
        ("Script", "/script"),
        ("Agents", "/agent_count"),
        ("Expires", "/expires_at"),
        ("Metric", "/metric"),
        ("Value", "/value"),
        ("Threshold", "/threshold"),
        ("Key", "/key_kind"),
        ("Duration in ms", "/duration_ms"),
        ("Usual duration in ms", "/usual_duration_ms"),
        ("Integration", "/integration_name"),
    ];
    let mut found = Vec::new();
    for (label, path) in FACTS {
        match data.pointer(path) {
            Some(Value::String(text)) if !text.is_empty() => found.push((label, shown(text))),
            Some(Value::Number(number)) => found.push((label, number.to_string())),
            _ => {}
        }
    }
    let failed = data.pointer("/job/failed_executions").and_then(Value::as_array);
    let names: Vec<_> = failed
        .into_iter()
        .flatten()
        .filter_map(|one| one["agent_name"].as_str())
        .take(MAX_LISTED)
        .map(shown)
        .collect();
    if !names.is_empty() {
        found.push(("Failed on", names.join(", ")));
    }
    found
}

fn link(server: &str, event: EventType, subject_id: Uuid) -> Option<String> {
    let section = match event.resource() {
        "agent" => "agents",
        "job" => "jobs",
        "schedule" => "schedules",
        "approval" => "approvals",
        _ => return None,
    };
    Some(format!("{server}/{section}/{subject_id}"))
}
