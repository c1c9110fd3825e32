//! `muster agents`: the agents of the fleet.

mod facts;
mod history;
mod tags;

use std::time::{Duration, Instant};

use clap::Subcommand;
use muster_protocol::identity::Fingerprint;
use muster_protocol::parameter::ANY;
use muster_protocol::program::backoff::Delays;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::client::{ApiClient, delay_after};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::expressions::mark_column;
use crate::input::quantities::duration;
use crate::listing::{LatestLimit, Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 8] = [
    Column::of("NAME", "name"),
    Column::of("STATUS", "status"),
    Column::of("HOSTNAME", "hostname"),
    Column::of("VERSION", "version"),
    Column::of("OS", "os"),
    Column::of("TAGS", "tags"),
    Column::of("LAST SEEN", "last_seen_at"),
    Column::of("ID", "id"),
];

const SCRIPT_COLUMNS: [Column; 3] =
    [Column::of("NAME", "name"), Column::by("PARAMETERS", parameters), Column::of("PATH", "path")];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("fingerprint", "--fingerprint"),
    option("expression", "--on or --tag"),
    option("tags", "TAGS").expects("1 to 64 letters, digits and . _ : / -"),
    option("target.expression", "--on"),
    option("limit", "--limit"),
];

/// How long the server may hold one request of `muster agents wait`.
const WAIT_MS: u64 = 20_000;
/// Longest time that `muster agents wait` waits.
const MAX_WAIT: Duration = Duration::from_secs(7 * 86_400);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all agents, or those that match an expression (default action)
    List {
        /// Only agents that match this expression, such as 'tag:web & os:linux & !name:db-*'
        ///
        /// A condition is FACT:VALUE, such as tag:web:
        ///   FACT   tag, name, hostname, os, arch, version, id, status (online or offline),
        ///          or level (full or basic)
        ///   VALUE  may hold the wildcards * and ?; write "…" around spaces
        /// Combine conditions with & (and), | (or), ! (not) and parentheses. `all` matches every agent.
        #[arg(long, value_name = "EXPRESSION", verbatim_doc_comment, conflicts_with = "tags")]
        on: Option<String>,
        /// Only agents with this tag; repeat to require several tags
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show all details of an agent
    Show {
        /// Agent: an id, a name or a hostname
        agent: String,
    },
    /// Rename an agent
    Rename {
        /// Agent: an id, a name or a hostname
        agent: String,
        /// New name
        name: String,
    },
    /// Add tags to an agent
    ///
    ///   muster agents tag web-1 web eu
    ///   muster run --on tag:web uptime
    #[command(verbatim_doc_comment)]
    Tag {
        /// Agent: an id, a name or a hostname
        agent: String,
        /// Tags to add
        #[arg(required = true)]
        tags: Vec<String>,
    },
    /// Remove tags from an agent
    ///
    ///   muster agents untag web-1 eu
    #[command(verbatim_doc_comment)]
    Untag {
        /// Agent: an id, a name or a hostname
        agent: String,
        /// Tags to remove
        #[arg(required = true)]
        tags: Vec<String>,
    },
    /// List what happened to an agent: online, offline, alerts, manifests
    Events {
        /// Agent: an id, a name or a hostname
        agent: String,
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// List the telemetry of an agent, the oldest first
    Metrics {
        /// Agent: an id, a name or a hostname
        agent: String,
        /// Only since then: RFC 3339, a date, or an age such as 2h; it is kept for 24 h
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Show at most N samples, the newest
        #[arg(long, value_name = "N", default_value_t = 60,
              value_parser = clap::value_parser!(u64).range(1..=3_000))]
        limit: u64,
    },
    /// Delete an agent; a running agent can enrol again with its key
    Delete {
        /// Agent: an id, a name or a hostname
        agent: String,
    },
    /// Accept the new key pair of a reinstalled or replaced host as an agent's own
    ///
    /// The agent must be offline. It keeps its id, tags and history, and the host reconnects as this
    /// agent. `muster-agent status` prints the fingerprint on the host; take it from there, not from
    /// the server, which may show the key pair of another host.
    Adopt {
        /// Agent: an id, a name or a hostname
        agent: String,
        /// Fingerprint of the host's key pair
        #[arg(long, value_name = "SHA256:…")]
        fingerprint: Fingerprint,
    },
    /// Wait until an agent is connected
    Wait {
        /// Name or hostname of the agent
        name: String,
        /// Exit with code 1 after this time, such as 30s, 5m or 1h
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
        timeout: Duration,
    },
    /// List the facts that a host reports about itself
    Facts {
        /// Agent: an id, a name or a hostname
        agent: String,
    },
    /// List the scripts in the manifest of a host
    Scripts {
        /// Agent: an id, a name or a hostname
        agent: String,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let list_all = || Action::List { on: None, tags: Vec::new(), limit: Limit::default() };
    match args.action.unwrap_or_else(list_all) {
        Action::List { on, tags, limit } => {
            let on = on.or_else(|| with_all_tags(&tags));
            let empty = match on {
                None => "No agents yet. Create a key with `muster keys create`.",
                Some(_) => "No agents match.",
            };
            let filters: Vec<_> = on.iter().map(|on| ("expression", on.as_str())).collect();
            let (segments, columns) = (&["agents"], &COLUMNS);
            let list = List { segments, filters: &filters, limit, columns, empty };
            let page = list.read(session).await.map_err(|error| match &on {
                Some(expression) => mark_column(error, expression),
                None => error,
            })?;
            list.show_page(session, &page)?;
            if on.is_some() && !session.output.json {
                print_note(&match_summary(&page));
            }
            Ok(0)
        }
        Action::Show { agent } => {
            let id = session.id_of(ResourceKind::Agent, &agent).await?;
            session.show(&["agents", &id]).await
        }
        Action::Rename { agent, name } => {
            let id = session.id_of(ResourceKind::Agent, &agent).await?;
            rename(session, &id, &name).await
        }
        Action::Tag { agent, tags } => tags::change(session, &agent, &tags, &[]).await,
        Action::Untag { agent, tags } => tags::change(session, &agent, &[], &tags).await,
        Action::Events { agent, limit } => history::events(session, &agent, limit).await,
        Action::Metrics { agent, since, limit } => {
            history::metrics(session, &agent, since.as_deref(), limit).await
        }
        Action::Delete { agent } => {
            let id = session.exact_id_of(ResourceKind::Agent, &agent).await?;
            session.delete(("Agent", &agent), &["agents", &id]).await
        }
        Action::Adopt { agent, fingerprint } => {
            let id = session.exact_id_of(ResourceKind::Agent, &agent).await?;
            let body = json!({"fingerprint": fingerprint});
            let request = session.api.request(Method::POST, &["agents", &id, "adopt"]).json(&body);
            let adopted = session.api.json(request).await?;
            session.output.details(&adopted)?;
            if let Some(accepted) = adopted.get("next_fingerprint").and_then(Value::as_str) {
                print_note(&format!(
                    "No agent has the key pair {accepted} yet. The next host that proves it with the \
                     same agent key becomes this agent."
                ));
            }
            Ok(0)
        }
        Action::Wait { name, timeout } => wait_until_connected(session, &name, timeout).await,
        Action::Facts { agent } => facts::show(session, &agent).await,
        Action::Scripts { agent } => {
            let id = session.id_of(ResourceKind::Agent, &agent).await?;
            show_scripts(session, &id).await
        }
    }
}

/// Renames an agent, and reports if another one has that name already: commands that use it then ask for an id.
async fn rename(session: &Session, id: &str, name: &str) -> Result<u8, CliError> {
    let before = session.api.json(session.api.request(Method::GET, &["agents", id])).await?;
    let old = before.get("name").and_then(Value::as_str).unwrap_or(id);
    let body = json!({ "name": name });
    let said = |agent: &Value| {
        let name = agent.get("name").and_then(Value::as_str).unwrap_or(name);
        format!("Agent {old} is named {name} now.")
    };
    let code = session.change(Method::PATCH, &["agents", id], &body, said).await?;
    let expression = format!("name:{}", json!(name));
    let page = session.api.list(&["agents"], &[("expression", &expression)], Some(2)).await?;
    let items = page.get("items").and_then(Value::as_array).map_or(0, Vec::len);
    if items > 1 {
        print_note(&format!(
            "Another agent has the name {} too. Use their ids to tell them apart.",
            sanitize(name)
        ));
    }
    Ok(code)
}

/// Shows the manifest of a host, and why its newest version is not in force.
async fn show_scripts(session: &Session, id: &str) -> Result<u8, CliError> {
    let request = session.api.request(Method::GET, &["agents", id, "scripts"]);
    let manifest = session.api.json(request).await?;
    let text = |field: &str| manifest.get(field).and_then(Value::as_str);
    let empty = match text("in_force") {
        Some("none") => "No script is permitted.",
        _ => "The manifest of this host has no scripts.",
    };
    session.output.list(&manifest, &SCRIPT_COLUMNS, empty)?;
    if !session.output.json {
        let (since, error) = (text("in_force_since"), text("error"));
        let since = since.map(|since| session.output.time.instant(since));
        print_note(&manifest_note(text("in_force"), since.as_deref(), error));
    }
    Ok(0)
}

/// Which manifest is in force, since when and why.
fn manifest_note(in_force: Option<&str>, since: Option<&str>, error: Option<&str>) -> String {
    let Some(since) = since else {
        return "The host has not reported a manifest.".to_owned();
    };
    let error = error.unwrap_or("the host gave no reason");
    match in_force {
        Some("previous") => format!(
            "The host rejected the newest version of its manifest: {error}. The previous version is in \
             force, since {since}."
        ),
        Some("none") => format!("No manifest is in force, since {since}: {error}."),
        _ => format!("This manifest is in force since {since}."),
    }
}

/// The parameters that a script accepts.
fn parameters(script: &Value) -> String {
    if script.get("parameters").and_then(Value::as_str) == Some(ANY) {
        return ANY.to_owned();
    }
    let declared = script.get("parameters").and_then(Value::as_array);
    let words = declared.into_iter().flatten().map(|parameter| {
        let is = |name: &str| parameter.get(name).and_then(Value::as_bool) == Some(true);
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        let marks: Vec<_> = ["required", "secret"].into_iter().filter(|mark| is(mark)).collect();
        if marks.is_empty() { name.to_owned() } else { format!("{name} ({})", marks.join(", ")) }
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The expression of agents that have all these tags.
fn with_all_tags(tags: &[String]) -> Option<String> {
    let conditions: Vec<_> = tags.iter().map(|tag| format!("tag:\"{tag}\"")).collect();
    (!conditions.is_empty()).then(|| conditions.join(" & "))
}

/// How many of the listed agents are online: `3 matched, 2 online`. Without all of them, nothing is known
/// about the others.
fn match_summary(page: &Value) -> String {
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_online = |agent: &&Value| agent.get("status").and_then(Value::as_str) == Some("online");
    let (count, online) = (items.len(), items.iter().filter(is_online).count());
    match page.get("next_cursor").is_some_and(Value::is_string) {
        true => format!("{count} of the matching agents are shown, {online} of these online"),
        false => format!("{count} matched, {online} online"),
    }
}

/// Sends one long poll after another until the agent is connected or `timeout` is over. Also waits for
/// an unreachable server.
async fn wait_until_connected(
    session: &Session,
    name: &str,
    timeout: Duration,
) -> Result<u8, CliError> {
    let until = Instant::now() + timeout.min(MAX_WAIT);
    let mut delays = Delays::for_reconnect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait_ms = WAIT_MS.min(u64::try_from(left.as_millis()).unwrap_or(WAIT_MS));
        let query = [("name", name.to_owned()), ("wait_ms", wait_ms.to_string())];
        let request = session.api.request(Method::GET, &["agents", "connected"]).query(&query);
        match session.api.json(ApiClient::with_wait(request, wait_ms)).await {
            Ok(page) => {
                if let Some(agent) = page.get("items").and_then(|items| items.get(0)) {
                    session.output.answer(agent, |agent| {
                        let text = |name: &str| agent.get(name).and_then(Value::as_str);
                        let name = text("name").unwrap_or(name);
                        let id = text("id").unwrap_or_default();
                        sanitize(&format!("{name} is connected ({id})"))
                    })?;
                    return Ok(0);
                }
                delays.reset();
            }
            Err(error) if error.is_transient() && !left.is_zero() => {
                tokio::time::sleep(delay_after(&error, &mut delays).min(left)).await;
            }
            Err(error) => return Err(error),
        }
        if left.is_zero() {
            print_note(&format!(
                "{name} is not connected; see `muster agents`, and run deploy.sh --status on the host"
            ));
            return Ok(1);
        }
    }
}
