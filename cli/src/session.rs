//! What most commands share: the server, the output, names that become ids, and simple requests.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::client::ApiClient;
use muster_protocol::error_chain;

use crate::error::CliError;
use crate::error::problem::Problem;
use crate::input::{id_prefix, name_lookup};
use crate::interrupt::Interrupts;
use crate::output::printer::{Output, print_note};
use crate::output::text::sanitize;

/// Most agents whose names are compared with one that does not exist.
const MAX_COMPARED: usize = 2_000;

/// A connection to one server, and the output of one command.
pub struct Session {
    pub api: ApiClient,
    pub output: Output,
}

/// What users refer to by name.
#[derive(Debug, Clone, Copy)]
pub enum ResourceKind {
    Agent,
    Key,
    ApiKey,
    Group,
    Assignment,
    Calendar,
    Hook,
    Integration,
    Schedule,
    Script,
    Service,
    Tenant,
    ApprovalRule,
    AlertRule,
}

impl ResourceKind {
    fn noun(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Key => "key",
            Self::ApiKey => "API key",
            Self::Group => "group",
            Self::Assignment => "assignment",
            Self::Calendar => "calendar",
            Self::Hook => "hook",
            Self::Integration => "integration",
            Self::Schedule => "schedule",
            Self::Script => "script",
            Self::Service => "service",
            Self::Tenant => "tenant",
            Self::ApprovalRule => "rule",
            Self::AlertRule => "alert rule",
        }
    }

    fn path(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &["agents"],
            Self::Key => &["agents", "keys"],
            Self::ApiKey => &["keys"],
            Self::Group => &["groups"],
            Self::Assignment => &["assignments"],
            Self::Calendar => &["calendars"],
            Self::Hook => &["hooks"],
            Self::Integration => &["integrations"],
            Self::Schedule => &["schedules"],
            Self::Script => &["scripts"],
            Self::Service => &["services"],
            Self::Tenant => &["tenants"],
            Self::ApprovalRule => &["approvals", "rules"],
            Self::AlertRule => &["alerts", "rules"],
        }
    }
}

impl Session {
    /// The id that `typed` matches: an id, a name, or a prefix of one that is unique. For an agent:
    /// see [`Session::agent_id`]. Does not check that an id exists.
    pub async fn id_of(&self, kind: ResourceKind, typed: &str) -> Result<String, CliError> {
        match (kind, id_prefix::checked(typed)) {
            (ResourceKind::Agent, Some(prefix)) => self.agent_id_or_prefix(typed, &prefix).await,
            _ => self.look_up(kind, typed, name_lookup::find).await,
        }
    }

    /// The agent that a word names which may be the beginning of an id. What runs is never chosen by a
    /// prefix; what is shown or changed may be. A host chooses its name, so a name never wins over an id.
    async fn agent_id_or_prefix(&self, typed: &str, prefix: &str) -> Result<String, CliError> {
        let named = match self.agent_id(typed, false).await {
            Ok(id) => Some(id),
            Err(CliError::Usage(_)) => None,
            Err(error) => return Err(error),
        };
        let page = self.api.list(&["agents"], &[], None).await?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
        id_prefix::find_unless_named(
            "agent",
            prefix,
            items.unwrap_or_default(),
            named.as_deref(),
            sanitize,
        )
    }

    /// The id of the agent with this id, name or hostname. The server decides: no prefixes, and
    /// `with_secrets` no name that only a host reported.
    pub async fn agent_id(&self, typed: &str, with_secrets: bool) -> Result<String, CliError> {
        if uuid::Uuid::try_parse(typed).is_ok() {
            return Ok(typed.to_owned());
        }
        let query =
            [("name", typed), ("with_secrets", if with_secrets { "true" } else { "false" })];
        let request = self.api.request(Method::GET, &["agents", "resolve"]).query(&query);
        let agent = match self.api.json_with_retries(request).await {
            Ok(agent) => agent,
            Err(CliError::Refused(problem)) => {
                let hint = match problem.status {
                    404 => self.near_agent(typed).await,
                    _ => None,
                };
                return Err(agent_error(typed, problem, hint));
            }
            Err(error) => return Err(error),
        };
        let id = agent.get("id").and_then(Value::as_str).map(str::to_owned);
        id.ok_or_else(|| CliError::Answer("the agent has no id".into()))
    }

    /// The name of an agent that is like the typed one. Without an answer there is none.
    async fn near_agent(&self, typed: &str) -> Option<String> {
        let page = self.api.list(&["agents"], &[], Some(MAX_COMPARED)).await.ok()?;
        let items = page.get("items").and_then(Value::as_array)?;
        let names = items.iter().flat_map(|agent| {
            ["name", "hostname"].map(|field| agent.get(field).and_then(Value::as_str))
        });
        name_lookup::nearest(typed, names.flatten()).map(sanitize)
    }

    /// [`Session::id_of`] for changes that can't be undone: no prefixes.
    pub async fn exact_id_of(&self, kind: ResourceKind, typed: &str) -> Result<String, CliError> {
        self.look_up(kind, typed, name_lookup::find_exact).await
    }

    async fn look_up(
        &self,
        kind: ResourceKind,
        typed: &str,
        find: fn(&str, &str, &[Value]) -> Result<String, CliError>,
    ) -> Result<String, CliError> {
        if matches!(kind, ResourceKind::Agent) {
            return self.agent_id(typed, false).await;
        }
        if uuid::Uuid::try_parse(typed).is_ok() {
            return Ok(typed.to_owned());
        }
        let page = self.api.list(kind.path(), &[], None).await?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
        find(kind.noun(), typed, items.unwrap_or_default())
    }

    /// Requests one object and shows its fields.
    pub async fn show(&self, segments: &[&str]) -> Result<u8, CliError> {
        let answer = self.api.json(self.api.request(Method::GET, segments)).await?;
        self.output.details(&answer)?;
        Ok(0)
    }

    /// Sends a change and prints a sentence about the answer, or the answer itself with `--json`.
    pub async fn change(
        &self,
        method: Method,
        segments: &[&str],
        body: &Value,
        sentence: impl FnOnce(&Value) -> String,
    ) -> Result<u8, CliError> {
        let answer = self.api.json(self.api.request(method, segments).json(body)).await?;
        self.output.answer(&answer, |answer| sanitize(&sentence(answer)))?;
        Ok(0)
    }

    /// Sends a change and shows all fields of the answer.
    pub async fn change_and_show(
        &self,
        method: Method,
        segments: &[&str],
        body: &Value,
    ) -> Result<u8, CliError> {
        let answer = self.api.json(self.api.request(method, segments).json(body)).await?;
        self.output.details(&answer)?;
        Ok(0)
    }

    /// Sends an action without arguments, such as `cancel`, and prints a sentence about the answer, or the
    /// answer itself with `--json`.
    pub async fn act(
        &self,
        segments: &[&str],
        sentence: impl FnOnce(&Value) -> String,
    ) -> Result<u8, CliError> {
        self.change(Method::POST, segments, &json!({}), sentence).await
    }

    /// The id of a job, an execution or a command that was typed in full, or its first 8 characters or
    /// more. `collection` is the API's name.
    ///
    /// # Errors
    /// [`CliError::Usage`] if no id has the prefix, or more than one.
    pub async fn work_id(&self, collection: &str, typed: &str) -> Result<String, CliError> {
        if uuid::Uuid::try_parse(typed).is_ok() {
            return Ok(typed.to_owned());
        }
        let noun = collection.trim_end_matches('s');
        let Some(prefix) = id_prefix::checked(typed) else {
            let message = format!(
                "\"{typed}\" is no id of {}, nor its first 8 characters or more; see `muster {collection}`",
                with_article(noun)
            );
            return Err(CliError::Usage(message));
        };
        id_prefix::find(noun, &prefix, &self.starting_with(collection, &prefix).await?, sanitize)
    }

    /// Items of a collection, among them the first whose ids start with `prefix`.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn starting_with(
        &self,
        collection: &str,
        prefix: &str,
    ) -> Result<Vec<Value>, CliError> {
        let query = [("cursor", id_prefix::cursor(prefix)), ("limit", id_prefix::PAGE.to_string())];
        let request = self.api.request(Method::GET, &[collection]).query(&query);
        let page = self.api.json_with_retries(request).await?;
        Ok(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Deletes one object and confirms it: what kind it is, and how the user named it.
    pub async fn delete(
        &self,
        (noun, typed): (&str, &str),
        segments: &[&str],
    ) -> Result<u8, CliError> {
        let answer = self.api.json(self.api.request(Method::DELETE, segments)).await?;
        // An empty answer says nothing to a program.
        let answer = if answer.is_null() { json!({ "deleted": typed }) } else { answer };
        self.output.answer(&answer, |_| sanitize(&format!("{noun} {typed} is deleted.")))?;
        Ok(0)
    }

    /// Handles interrupts while a command or job runs: the first cancels it, the second returns.
    /// `collection` is the API's name: `commands` or `jobs`.
    pub async fn cancel_on_interrupt(
        &self,
        collection: &str,
        id: &str,
        interrupts: &mut Interrupts,
    ) -> CliError {
        interrupts.next().await;
        self.cancel(collection, id, interrupts).await
    }

    /// Cancels a command or a job, and returns at the next interrupt.
    pub async fn cancel(
        &self,
        collection: &str,
        id: &str,
        interrupts: &mut Interrupts,
    ) -> CliError {
        print_note("cancelling; press ^C again to exit without waiting");
        let cancel = async {
            let segments = [collection, id, "cancel"];
            let request = self.api.request(Method::POST, &segments).json(&json!({}));
            if let Err(error) = self.api.json_with_retries(request).await {
                print_note(&format!("failed to cancel: {}", error_chain(&error)));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cancel => {}
            () = interrupts.next() => {}
        }
        CliError::Interrupted(format!("interrupted; see `muster {collection} show {id}`"))
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The error for a word that names no agent, or more than one.
fn agent_error(typed: &str, problem: Box<Problem>, near: Option<String>) -> CliError {
    match (problem.status, problem.code.as_str()) {
        (404, _) => {
            let near = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            CliError::Usage(format!(
                "no agent has the id, name or hostname \"{typed}\"{near}; list them with `muster agents`"
            ))
        }
        (409, "ambiguous_agent") => {
            let lines = problem.candidates.iter().map(|agent| {
                let text = |name: &str| agent.get(name).and_then(Value::as_str).unwrap_or_default();
                let line = format!("  {}  {}  {}", text("id"), text("name"), text("hostname"));
                sanitize(line.trim_end())
            });
            let lines: Vec<_> = lines.collect();
            CliError::Usage(format!(
                "\"{typed}\" matches more than one agent; use an id:\n{}",
                lines.join("\n")
            ))
        }
        _ => CliError::Refused(problem),
    }
}
