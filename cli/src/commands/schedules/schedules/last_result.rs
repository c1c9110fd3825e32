//! How the latest run of each schedule ended, for the list.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::Value;

use crate::error::CliError;
use crate::session::Session;

/// Schedules whose latest run is read at once.
const MAX_CONCURRENT: usize = 16;

/// Adds the field `last_result` to each schedule of a page.
///
/// # Errors
/// [`CliError`].
pub async fn add(session: &Session, page: &mut Value) -> Result<(), CliError> {
    let Some(items) = page.get_mut("items").and_then(Value::as_array_mut) else { return Ok(()) };
    let ids = items.iter().map(|item| text(item, "id").to_owned()).collect::<Vec<_>>();
    let results = stream::iter(ids.into_iter().map(|id| async move { latest(session, &id).await }));
    let results: Vec<String> = results.buffered(MAX_CONCURRENT).try_collect().await?;
    for (item, result) in items.iter_mut().zip(results) {
        item["last_result"] = result.into();
    }
    Ok(())
}

/// The state of the latest job, or why there is none.
async fn latest(session: &Session, id: &str) -> Result<String, CliError> {
    let request = session.api.request(Method::GET, &["schedules", id, "fires"]);
    let page = session.api.json_with_retries(request.query(&[("limit", "1")])).await?;
    let Some(fire) = page.get("items").and_then(|items| items.get(0)) else {
        return Ok("-".to_owned());
    };
    match text(fire, "job_id") {
        "" => Ok(without_job(fire)),
        job => {
            let request = session.api.request(Method::GET, &["jobs", job]);
            match session.api.json_with_retries(request).await {
                Ok(job) => Ok(text(&job, "state").to_owned()),
                // It is older than the history.
                Err(CliError::Refused(problem)) if problem.status == 404 => Ok("-".to_owned()),
                Err(error) => Err(error),
            }
        }
    }
}

fn without_job(fire: &Value) -> String {
    match (text(fire, "state"), text(fire, "reason")) {
        (state, "") => state.to_owned(),
        (state, reason) => format!("{state}: {reason}"),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fire_without_a_job_shows_why() {
        assert_eq!(
            without_job(&json!({"state": "skipped", "reason": "overlap"})),
            "skipped: overlap"
        );
        assert_eq!(without_job(&json!({"state": "due", "reason": null})), "due");
    }
}
