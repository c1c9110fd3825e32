//! Ids that are typed as their first characters.
//!
//! Pure: the caller passes the candidates.

use serde_json::Value;

use crate::error::CliError;

/// Least characters of a prefix.
const MIN_CHARS: usize = 8;
/// Most characters of a prefix: with more, the id itself could be the cursor, which a page leaves out.
const MOST_CHARS: usize = 30;
/// Most candidates that an error lists.
const MAX_LISTED: usize = 10;
/// Items to request in order to know whether a prefix is unique and what it may mean.
pub const PAGE: usize = MAX_LISTED + 1;
/// What tells two items apart in a list of candidates.
const DETAILS: [&str; 7] =
    ["name", "agent_name", "hostname", "command", "script", "state", "created_at"];
/// The last id.
const LAST: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";

/// The prefix in lower case, if it can be one of an id.
pub fn checked(typed: &str) -> Option<String> {
    let is_like = |(typed, last): (char, char)| match last {
        '-' => typed == '-',
        _ => typed.is_ascii_hexdigit(),
    };
    let is_prefix = (MIN_CHARS..=MOST_CHARS).contains(&typed.len())
        && typed.chars().zip(LAST.chars()).all(is_like);
    is_prefix.then(|| typed.to_ascii_lowercase())
}

/// The cursor of a list, newest first, whose next items start with `prefix` if any do.
pub fn cursor(prefix: &str) -> String {
    format!("{prefix}{}", &LAST[prefix.len()..])
}

/// The only id among these items that starts with `prefix`.
///
/// # Errors
/// [`CliError::Usage`] if none does, or more than one; it lists them with what tells them apart. `shown` makes
/// the text of hosts safe for a terminal.
pub fn find(
    noun: &str,
    prefix: &str,
    items: &[Value],
    shown: impl Fn(&str) -> String,
) -> Result<String, CliError> {
    let text = |item: &Value, field: &str| {
        item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let is_found = |item: &&Value| text(item, "id").starts_with(prefix);
    let found: Vec<&Value> = items.iter().filter(is_found).collect();
    match found.as_slice() {
        [item] => Ok(text(item, "id")),
        [] => Err(CliError::Usage(format!("no {noun} has an id that starts with \"{prefix}\""))),
        several => {
            let line = |item: &&Value| {
                let known = DETAILS.map(|field| text(item, field));
                let known: Vec<_> = known.iter().filter(|text| !text.is_empty()).collect();
                let known: Vec<_> = known.into_iter().map(|text| shown(text)).collect();
                format!("  {}  {}", text(item, "id"), known.join("  ")).trim_end().to_owned()
            };
            let mut lines: Vec<_> = several.iter().take(MAX_LISTED).map(line).collect();
            if several.len() > MAX_LISTED {
                lines.push("  and more".to_owned());
            }
            Err(CliError::Usage(format!(
                "\"{prefix}\" is the start of several ids; type more of it:\n{}",
                lines.join("\n")
            )))
        }
    }
}

/// True if an id among these items starts with `prefix`.
pub fn any(prefix: &str, items: &[Value]) -> bool {
    let mut ids = items.iter().filter_map(|item| item.get("id").and_then(Value::as_str));
    ids.any(|id| id.starts_with(prefix))
}

/// [`find`], where the word that was typed also names the item `named`, if any. `shown` makes the text of
/// hosts safe for a terminal.
///
/// # Errors
/// As [`find`], and if the name and the prefix are of different items; it lists them.
pub fn find_unless_named(
    noun: &str,
    prefix: &str,
    items: &[Value],
    named: Option<&str>,
    shown: impl Fn(&str) -> String,
) -> Result<String, CliError> {
    let Some(named) = named else {
        return find(noun, prefix, items, shown);
    };
    let text = |item: &Value, field: &str| {
        item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let is_meant =
        |item: &&Value| text(item, "id").starts_with(prefix) || text(item, "id") == named;
    let meant: Vec<_> = items.iter().filter(is_meant).collect();
    if meant.iter().all(|item| text(item, "id") == named) {
        return Ok(named.to_owned());
    }
    let line = |item: &&Value| {
        let line = format!("  {}  {}", text(item, "id"), text(item, "name"));
        shown(line.trim_end())
    };
    let lines: Vec<_> = meant.iter().take(MAX_LISTED).map(line).collect();
    Err(CliError::Usage(format!(
        "\"{prefix}\" is the name of one {noun} and the start of the id of another; type a whole id:\n{}",
        lines.join("\n")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prefix_has_eight_hexadecimal_characters_or_more() {
        assert_eq!(checked("01A2063F-c6").as_deref(), Some("01a2063f-c6"));
        assert_eq!(cursor("01a2063f-c6"), "01a2063f-c6ff-ffff-ffff-ffffffffffff");
        for typed in [
            "01a2063",
            "01a2063fc651",
            "web-1-long-name",
            "",
            "01a2063f-c651-75b9-b5d2-d0016f277788",
        ] {
            assert_eq!(checked(typed), None, "{typed}");
        }
    }

    #[test]
    fn a_name_never_wins_over_the_id_of_another() {
        let items = [
            json!({"id": "01a2063f-c6", "name": "web"}),
            json!({"id": "01b00000-d7", "name": "01a2063f"}),
        ];
        let find = |named| find_unless_named("agent", "01a2063f", &items, named, str::to_owned);
        let refused = find(Some("01b00000-d7")).expect_err("ambiguous").to_string();
        assert!(refused.contains("01a2063f-c6") && refused.contains("01b00000-d7"), "{refused}");
        assert_eq!(find(Some("01a2063f-c6")).expect("one"), "01a2063f-c6");
        assert_eq!(find(None).expect("one"), "01a2063f-c6");
    }

    #[test]
    fn only_a_unique_prefix_is_an_id() {
        let items = [json!({"id": "01a2063f-c6"}), json!({"id": "01a2063f-d7"}), json!({})];
        assert_eq!(find("job", "01a2063f-c", &items, str::to_owned).expect("one"), "01a2063f-c6");
        let several = find("job", "01a2063f", &items, str::to_owned).expect_err("two").to_string();
        assert_eq!(several.lines().count(), 3, "{several}");
        assert!(find("job", "02000000", &items, str::to_owned).is_err());
    }
}
