//! Finds the agent, key or group that a typed name matches.
//!
//! Pure: the caller passes the candidates.

use serde_json::Value;

use crate::error::CliError;

/// Most candidates that an error lists.
const MAX_LISTED: usize = 10;
/// Lowest similarity of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.8;

/// The id of the item that `typed` matches. Tries, in this order: an id, a name, a hostname, each in
/// full; then a prefix of a name or hostname that only one item has.
///
/// # Errors
/// [`CliError::Usage`] if no item matches, or more than one; it lists them.
pub fn find(kind: &str, typed: &str, items: &[Value]) -> Result<String, CliError> {
    let with_prefix: Vec<_> = items
        .iter()
        .filter(|item| {
            ["name", "hostname"].iter().any(|field| text(item, field).starts_with(typed))
        })
        .collect();
    only_match(kind, typed, exact(typed, items).into_iter().chain([with_prefix]))
}

/// [`find`] without prefixes of names.
///
/// # Errors
/// As [`find`].
pub fn find_exact(kind: &str, typed: &str, items: &[Value]) -> Result<String, CliError> {
    only_match(kind, typed, exact(typed, items).into_iter())
}

/// The name that is most like the typed one, if one is much like it.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|name| (strsim::jaro_winkler(typed, name), name));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= MIN_SIMILARITY).then_some(best.1)
}

/// The command that lists what has this noun.
fn list_command(kind: &str) -> String {
    match kind {
        "API key" => "muster api-keys".to_owned(),
        "rule" => "muster approvals rules".to_owned(),
        "alert rule" => "muster alerts rules".to_owned(),
        "membership" => "muster whoami --json".to_owned(),
        kind => format!("muster {kind}s"),
    }
}

fn text(item: &Value, field: &str) -> String {
    item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn exact<'a>(typed: &str, items: &'a [Value]) -> [Vec<&'a Value>; 3] {
    ["id", "name", "hostname"]
        .map(|field| items.iter().filter(|item| text(item, field) == typed).collect())
}

fn only_match<'a>(
    kind: &str,
    typed: &str,
    mut candidates: impl Iterator<Item = Vec<&'a Value>>,
) -> Result<String, CliError> {
    let found = candidates.find(|found| !found.is_empty());
    match found.as_deref() {
        _ if typed.is_empty() => Err(CliError::Usage(format!("the name of the {kind} is empty"))),
        None => Err(CliError::Usage(format!(
            "no {kind} matches \"{typed}\"; list them with `{}`",
            list_command(kind)
        ))),
        Some([item]) => match text(item, "id") {
            id if id.is_empty() => Err(CliError::Answer(format!("the {kind} has no id"))),
            id => Ok(id),
        },
        Some(several) => {
            let mut lines: Vec<_> = several
                .iter()
                .take(MAX_LISTED)
                .map(|item| {
                    format!(
                        "  {}  {}  {}",
                        text(item, "id"),
                        text(item, "name"),
                        text(item, "hostname")
                    )
                })
                .map(|line| line.trim_end().to_owned())
                .collect();
            if several.len() > MAX_LISTED {
                lines.push(format!("  and {} more", several.len() - MAX_LISTED));
            }
            Err(CliError::Usage(format!(
                "\"{typed}\" matches {} {kind}s; use an id:\n{}",
                several.len(),
                lines.join("\n")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn agents() -> Vec<Value> {
        vec![
            json!({"id": "01", "name": "web", "hostname": "web-1.example"}),
            json!({"id": "02", "name": "web-2", "hostname": "web-2.example"}),
            json!({"id": "03", "name": "db", "hostname": "one.example"}),
            json!({"id": "04", "name": "twin", "hostname": "same.example"}),
            json!({"id": "05", "name": "twin", "hostname": "same.example"}),
        ]
    }

    #[test]
    fn id_name_hostname_and_unique_prefix_match() {
        for (typed, id) in
            [("03", "03"), ("db", "03"), ("one.example", "03"), ("on", "03"), ("web-2", "02")]
        {
            assert_eq!(find("agent", typed, &agents()).unwrap(), id, "{typed}");
        }
    }

    #[test]
    fn whole_name_wins_over_a_prefix_of_another_name() {
        assert_eq!(find("agent", "web", &agents()).unwrap(), "01");
    }

    #[test]
    fn exact_lookup_refuses_prefixes_and_duplicates() {
        assert_eq!(find_exact("agent", "web", &agents()).unwrap(), "01");
        for typed in ["we", "on", "twin"] {
            assert!(find_exact("agent", typed, &agents()).is_err(), "{typed}");
        }
    }

    #[test]
    fn ambiguous_name_lists_the_candidates_with_their_ids() {
        for typed in ["we", "twin"] {
            let error = find("agent", typed, &agents()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert_eq!(error.to_string().lines().count(), 3, "{error}");
            let expected = format!("\"{typed}\" matches 2 agents; use an id:\n");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn unknown_name_is_refused_with_a_command_that_exists() {
        for (kind, command) in [
            ("API key", "`muster api-keys`"),
            ("rule", "`muster approvals rules`"),
            ("schedule", "`muster schedules`"),
            ("calendar", "`muster calendars`"),
            ("hook", "`muster hooks`"),
        ] {
            let error = find(kind, "nope", &agents()).unwrap_err().to_string();
            assert!(error.ends_with(command), "{error}");
        }
    }

    #[test]
    fn name_that_is_much_like_another_is_suggested() {
        let names = || ["web-1", "db"].into_iter();
        assert_eq!(nearest("wbe-1", names()), Some("web-1"));
        assert_eq!(nearest("something", names()), None);
    }

    #[test]
    fn unknown_and_empty_names_are_refused() {
        for typed in ["nope", ""] {
            assert!(find("agent", typed, &agents()).is_err());
        }
        assert!(find("agent", "", &[json!({"id": "1", "name": ""})]).is_err());
    }
}
