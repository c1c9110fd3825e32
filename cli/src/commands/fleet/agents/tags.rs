//! `muster agents tag` and `untag`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

/// Adds and removes tags of one agent. The others stay.
///
/// # Errors
/// [`CliError`].
pub async fn change(
    session: &Session,
    agent: &str,
    added: &[String],
    removed: &[String],
) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Agent, agent).await?;
    let request = session.api.request(Method::GET, &["agents", &id]);
    let known = tags(&session.api.json(request).await?);
    if let Some(missing) = removed.iter().find(|tag| !known.contains(tag)) {
        let message = format!("agent {agent} does not have the tag {missing}");
        return Err(CliError::Usage(message));
    }
    let body = json!({ "tags": changed(known, added, removed) });
    session.change(Method::PATCH, &["agents", &id], &body, sentence).await
}

fn tags(agent: &Value) -> Vec<String> {
    let tags = agent.get("tags").and_then(Value::as_array).into_iter().flatten();
    tags.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn changed(mut tags: Vec<String>, added: &[String], removed: &[String]) -> Vec<String> {
    tags.retain(|tag| !removed.contains(tag));
    for tag in added {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

/// The tags that an agent has now.
fn sentence(agent: &Value) -> String {
    let name = agent.get("name").and_then(Value::as_str).unwrap_or("the agent");
    let tags = tags(agent);
    let tags = if tags.is_empty() { "no tags".to_owned() } else { tags.join(", ") };
    sanitize(&format!("Agent {name} has {tags}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_added_once_and_removed_and_the_others_stay() {
        let of = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        assert_eq!(changed(of(&["a", "b"]), &of(&["b", "c"]), &of(&["a"])), of(&["b", "c"]));
        assert_eq!(sentence(&json!({"name": "x", "tags": []})), "Agent x has no tags.");
    }
}
