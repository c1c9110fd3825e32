//! Submits the work of a plan as a careful caller does: with an idempotency key, and again until
//! there is an answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fleet::{SCRIPT, TAG};
use super::plan::{Submission, Target};
use super::settings::ChaosSettings;
use crate::clients::api::{Api, ApiResponse};
use crate::wait::within;

/// A server may be killed several times before it answers.
const PATIENCE: Duration = Duration::from_secs(300);
/// Submissions between two queries of the queue.
const STRIDE: usize = 8;
const PAGE: usize = 100;

/// What the server answered to a submission: the id of the command, or of the job.
pub type Accepted = Uuid;

/// A terminal state that was seen during the run.
pub type EndedCommand = (String, String);

/// What was submitted, and what was seen during the run.
#[derive(Debug, Default)]
pub struct Observations {
    /// In the order of the plan.
    pub accepted: Vec<Accepted>,
    /// Commands that had ended when they were queried: their state, and when they ended.
    pub seen: BTreeMap<Uuid, EndedCommand>,
    /// Answers that a careful caller should never get.
    pub odd_answers: Vec<String>,
}

/// Submits the work.
#[derive(Debug)]
pub struct Caller<'a> {
    api: Api,
    settings: &'a ChaosSettings,
    agents: Vec<String>,
    start_log: &'a Path,
    observations: Observations,
}

impl<'a> Caller<'a> {
    /// `agents`: the ids of the hosts' agents, in the hosts' order.
    pub fn new(
        api: Api,
        settings: &'a ChaosSettings,
        agents: Vec<String>,
        start_log: &'a Path,
    ) -> Self {
        Self { api, settings, agents, start_log, observations: Observations::default() }
    }

    /// Submits everything, and waits until no command is open.
    pub async fn ask(mut self, submissions: &[Submission]) -> Observations {
        // By the number of submissions after which they are due.
        let mut cancels: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, submission) in submissions.iter().enumerate() {
            if index % STRIDE == 0 {
                self.wait_for_a_short_queue().await;
            }
            let id = self.submit(index, submission).await;
            self.observations.accepted.push(id);
            if let Some(after) = submission.cancel_after {
                cancels.entry(index + after).or_default().push(index);
            }
            for cancelled in cancels.remove(&index).unwrap_or_default() {
                self.cancel(cancelled, &submissions[cancelled].place).await;
            }
        }
        for cancelled in cancels.into_values().flatten() {
            self.cancel(cancelled, &submissions[cancelled].place).await;
        }
        // Queried in one request, and twice: a command that was delivered to a killed agent is
        // queued again, and must not be missed between two requests.
        for _ in 0..2 {
            within(PATIENCE, "nothing is open any more", async || self.has_ended().await).await;
        }
        self.observations
    }

    async fn wait_for_a_short_queue(&mut self) {
        let newest = within(PATIENCE, "the queue is short", async || {
            let queued = self.listed("&state=queued").await?.len();
            if queued >= self.settings.shape.backlog { None } else { self.listed("").await }
        })
        .await;
        for (id, seen) in newest.iter().filter_map(ended) {
            self.observations.seen.entry(id).or_insert(seen);
        }
    }

    async fn has_ended(&self) -> Option<()> {
        let path = "/api/executions?limit=1&state=queued,delivered,running";
        let answer = self.api.try_send(Method::GET, path, &[], None).await.ok()?;
        let page = answer.json();
        let is_empty = page["items"].as_array()?.is_empty() && page["next_cursor"].is_null();
        (answer.status == 200 && is_empty).then_some(())
    }

    async fn listed(&self, filter: &str) -> Option<Vec<Value>> {
        let path = format!("/api/commands?limit={PAGE}{filter}");
        let answer = self.api.try_send(Method::GET, &path, &[], None).await.ok()?;
        if answer.status != 200 {
            return None;
        }
        answer.json()["items"].as_array().cloned()
    }

    async fn submit(&mut self, index: usize, submission: &Submission) -> Uuid {
        let key = format!("{}-{index}", self.settings.seed);
        let (path, body) = self.request(index, submission);
        let answer = self.answered(&path, &[("idempotency-key", &key)], body).await;
        if answer.status != 202 {
            self.note(&path, &answer);
        }
        answer.json()["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default()
    }

    fn request(&self, index: usize, submission: &Submission) -> (String, Value) {
        let script = if submission.is_unlisted { "nowhere" } else { SCRIPT };
        let parameters = json!({
            "START_LOG": self.start_log,
            "PRINT": submission.print.to_string(),
            "STAY_MS": submission.stay_ms.to_string(),
            "EXIT": match submission.end {
                super::plan::End::Fails(code) => code.to_string(),
                _ => "0".to_owned(),
            },
        });
        let mut data = json!({
            "script": script,
            "parameters": parameters,
            "timeout_ms": submission.timeout_ms,
        });
        if submission.has_secret {
            data["secret_parameters"] = json!({"TOKEN": format!("{}{index}", super::SECRET)});
        }
        let target = match &submission.place {
            Target::Host(host) => {
                let expires_in_ms = submission.expires_in_ms;
                // The server would refuse what no host allows, so the hosts must be asked.
                let body = json!({"command": "execute", "data": data,
                    "expires_in_ms": expires_in_ms, "on_mismatch": "send"});
                return (format!("/api/agents/{}/command", self.agents[*host]), body);
            }
            Target::Hosts(hosts) => {
                let ids: Vec<_> = hosts.iter().map(|host| &self.agents[*host]).collect();
                json!({"ids": ids})
            }
            Target::All => json!({"tags": [TAG]}),
        };
        data["target"] = target;
        data["on_mismatch"] = "send".into();
        data["expires_in_ms"] = submission.expires_in_ms.into();
        ("/api/jobs".to_owned(), data)
    }

    async fn cancel(&mut self, index: usize, place: &Target) {
        let kind = if matches!(place, Target::Host(_)) { "commands" } else { "jobs" };
        let path = format!("/api/{kind}/{}/cancel", self.observations.accepted[index]);
        let answer = self.answered(&path, &[], json!({})).await;
        // 409: it has ended by itself.
        if !matches!(answer.status, 202 | 409) {
            self.note(&path, &answer);
        }
    }

    /// The answer of a server that is running and ready.
    async fn answered(&self, path: &str, headers: &[(&str, &str)], body: Value) -> ApiResponse {
        let bytes = body.to_string().into_bytes();
        within(PATIENCE, "an answer", async || {
            let body = Some(bytes.clone());
            let answer = self.api.try_send(Method::POST, path, headers, body).await.ok()?;
            // As documented: retry later.
            (!matches!(answer.status, 503 | 504)).then_some(answer)
        })
        .await
    }

    fn note(&mut self, path: &str, answer: &ApiResponse) {
        let text = String::from_utf8_lossy(&answer.bytes);
        self.observations.odd_answers.push(format!("{} to POST {path}: {text}", answer.status));
    }
}

/// A command's id with its state and the time of its end, if it has ended.
pub fn ended(command: &Value) -> Option<(Uuid, EndedCommand)> {
    let finished_at = command["finished_at"].as_str()?.to_owned();
    let id = command["id"].as_str()?.parse().ok()?;
    Some((id, (command["state"].as_str()?.to_owned(), finished_at)))
}
