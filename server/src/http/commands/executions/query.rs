//! The filters of a list of executions, as a query has them.

use muster_protocol::library::is_runnable_name;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::trigger::Trigger;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::ids::{AgentId, JobId, PrincipalId};
use crate::domain::name::{MAX_NAME_CHARS, clean};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::http::extract::page;
use crate::http::problem::Problem;
use crate::store::queries::CommandFilter;

/// Longest error text that repeats the caller's input.
const MAX_DETAIL_CHARS: usize = 512;

/// All given filters apply.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExecutionsQuery {
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Most items of the page: 1 to 500, default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
    /// Only executions of this agent.
    #[param(value_type = Option<Uuid>)]
    agent_id: Option<String>,
    /// Only executions on agents that this target expression matches now, such as `tag:web & status:offline`,
    /// at most 30,000 agents. Needs the scope `agents:read` too.
    expression: Option<String>,
    /// Only executions of this job.
    #[param(value_type = Option<Uuid>)]
    job_id: Option<String>,
    /// Only executions of this script, by its full name.
    script: Option<String>,
    /// Only executions in this state, or in one of several: `failed,lost`. Can be repeated.
    state: Option<String>,
    /// Only executions created at this instant or later, RFC 3339.
    #[param(value_type = Option<Timestamp>)]
    created_after: Option<String>,
    /// Only executions created before this instant, RFC 3339.
    #[param(value_type = Option<Timestamp>)]
    created_before: Option<String>,
    /// Only executions with this trigger: `api`, `retry`, `schedule`, `hook`, `task`, `service` or `group`.
    trigger: Option<String>,
    /// Only executions requested by this member or API key.
    #[param(value_type = Option<Uuid>)]
    requested_by: Option<String>,
}

/// Filters within a job.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JobExecutionsQuery {
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Most items of the page: 1 to 500, default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
    /// Only executions in this state, or in one of several: `failed,lost`. Can be repeated.
    state: Option<String>,
}

impl ExecutionsQuery {
    /// # Errors
    /// A problem that names the parameter that is not known or is given twice.
    pub(super) fn of(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        gather(pairs)
    }

    /// # Errors
    /// A problem that names the parameter that does not fit.
    pub(super) fn read(self) -> Result<(CommandFilter, Option<String>, PageRequest), Problem> {
        let filter = CommandFilter {
            is_execution: true,
            agent_id: id("agent_id", self.agent_id)?.map(AgentId),
            agents: None,
            job_id: id("job_id", self.job_id)?.map(JobId),
            script: script(self.script)?,
            states: states(self.state)?,
            created_after: instant("created_after", self.created_after)?,
            created_before: instant("created_before", self.created_before)?,
            trigger: self
                .trigger
                .map(|word| of_word("trigger", &word, Trigger::as_str))
                .transpose()?,
            requested_by: id("requested_by", self.requested_by)?.map(PrincipalId),
        };
        if let (Some(after), Some(before)) = (filter.created_after, filter.created_before)
            && after >= before
        {
            let error =
                FieldError::with_limit("created_after", FieldErrorCode::Conflict, "created_before");
            return Err(invalid("`created_after` must be before `created_before`", error));
        }
        let page = page_of(self.cursor.as_deref(), self.limit.as_deref())?;
        Ok((filter, self.expression, page))
    }
}

impl JobExecutionsQuery {
    /// # Errors
    /// As [`ExecutionsQuery::of`].
    pub(super) fn of(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        gather(pairs)
    }

    /// # Errors
    /// As [`ExecutionsQuery::read`].
    pub(super) fn read(self) -> Result<(CommandFilter, PageRequest), Problem> {
        let filter = CommandFilter { states: states(self.state)?, ..CommandFilter::default() };
        Ok((filter, page_of(self.cursor.as_deref(), self.limit.as_deref())?))
    }
}

/// `state` may be repeated, which is as good as commas; nothing else may.
fn gather<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, Problem> {
    let mut fields = Map::new();
    for (name, value) in pairs {
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, Value::String(value));
            }
            Some(Value::String(known)) if name == "state" => {
                known.push(',');
                known.push_str(&value);
            }
            Some(_) => {
                let error = FieldError::new(shown(&name), FieldErrorCode::TooMany);
                return Err(invalid(&format!("`{}` is given twice", shown(&name)), error));
            }
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| {
        let detail = clean(&error.to_string(), MAX_DETAIL_CHARS);
        let error = FieldError::from_serde(&detail);
        invalid(&detail, error)
    })
}

fn page_of(cursor: Option<&str>, limit: Option<&str>) -> Result<PageRequest, Problem> {
    let limit = limit.map(str::parse).transpose();
    let limit = limit.map_err(|_| invalid_value("limit", "must be a number"))?;
    page(cursor, limit)
}

fn id(name: &str, text: Option<String>) -> Result<Option<Uuid>, Problem> {
    let read = |text: String| {
        Uuid::parse_str(&text).map_err(|_| {
            invalid_value(name, &format!("must be an id, which `{}` is not", shown(&text)))
        })
    };
    text.map(read).transpose()
}

/// The filter for a script.
///
/// # Errors
/// A problem if it is no name of a script.
pub(in crate::http::commands) fn script(name: Option<String>) -> Result<Option<String>, Problem> {
    match name {
        Some(name) if !is_runnable_name(&name) => Err(invalid_value(
            "script",
            "must be 1 to 128 of letters, digits, `.`, `_`, `-`, no dot at the start",
        )),
        name => Ok(name),
    }
}

fn instant(name: &str, text: Option<String>) -> Result<Option<Timestamp>, Problem> {
    let read = |text: String| {
        Timestamp::parse(&text).ok_or_else(|| {
            let problem = "must be an RFC 3339 instant such as 2026-01-31T12:00:00Z (a `+` of its \
                           offset is written %2B in a query)";
            invalid_value(name, problem)
        })
    };
    text.map(read).transpose()
}

fn states(text: Option<String>) -> Result<Vec<CommandState>, Problem> {
    let mut states = Vec::new();
    for word in text.iter().flat_map(|text| text.split(',')) {
        let state = of_word("state", word.trim(), CommandState::as_str)?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(states)
}

/// The value of this name.
fn of_word<T: strum::IntoEnumIterator + Copy>(
    field: &str,
    word: &str,
    name: fn(T) -> &'static str,
) -> Result<T, Problem> {
    T::iter().find(|value| name(*value) == word).ok_or_else(|| {
        let known: Vec<_> = T::iter().map(|value| format!("`{}`", name(value))).collect();
        let names: Vec<_> = T::iter().map(name).collect();
        let error = FieldError::with_limit(field, FieldErrorCode::UnknownValue, names.join(", "));
        invalid(&format!("`{field}`: `{}` is none of {}", shown(word), known.join(", ")), error)
    })
}

fn shown(text: &str) -> String {
    clean(text, MAX_NAME_CHARS)
}

/// A parameter that has the wrong form.
fn invalid_value(name: &str, problem: &str) -> Problem {
    invalid(&format!("`{name}` {problem}"), FieldError::invalid(name, problem))
}

fn invalid(detail: &str, error: FieldError) -> Problem {
    Problem::invalid_query(detail.to_owned()).with_error(error)
}
