//! The options that select agents: `--on` and `--tag`.

use serde_json::{Value, json};

use crate::explanation::{OptionName, option};

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Target")]
pub struct TargetOptions {
    /// Agents that match an expression, such as 'tag:web & os:linux & !name:db-*'
    ///
    /// See `muster agents list --help` for the syntax.
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "tags")]
    pub on: Option<String>,
    /// Agents with this tag; repeat to require several tags
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

/// The fields of a target. Every command with [`TargetOptions`] lists them in its options.
pub const TARGET: OptionName = option("target", "--on or --tag");
pub const TARGET_EXPRESSION: OptionName = option("target.expression", "--on");
pub const TARGET_TAGS: OptionName =
    option("target.tags", "--tag").expects("1 to 64 letters, digits and . _ : / -");

impl TargetOptions {
    /// The target of a request; none if neither option is given.
    pub fn body(&self) -> Option<Value> {
        match (&self.on, self.tags.is_empty()) {
            (Some(expression), _) => Some(json!({ "expression": expression })),
            (None, false) => Some(json!({ "tags": self.tags })),
            (None, true) => None,
        }
    }

    /// The target as an expression; none if neither option is given.
    pub fn expression(&self) -> Option<String> {
        match (&self.on, self.tags.is_empty()) {
            (Some(expression), _) => Some(expression.clone()),
            (None, false) => {
                let tags: Vec<_> = self.tags.iter().map(|tag| format!("tag:\"{tag}\"")).collect();
                Some(tags.join(" & "))
            }
            (None, true) => None,
        }
    }
}

/// The target of an answer in the syntax of an expression.
pub fn target_expression(item: &Value) -> String {
    let Some(target) = item.get("target") else { return "-".into() };
    let texts = |name: &str| -> Vec<&str> {
        let items = target.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let joined = |fact: &str, texts: Vec<&str>, operator: &str| {
        texts.iter().map(|text| format!("{fact}:{text}")).collect::<Vec<_>>().join(operator)
    };
    match (target.get("expression").and_then(Value::as_str), texts("tags"), texts("ids")) {
        (Some(expression), ..) => expression.to_owned(),
        (None, tags, _) if !tags.is_empty() => joined("tag", tags, " & "),
        (None, _, ids) => joined("id", ids, " | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_shown_as_an_expression() {
        for (target, shown) in [
            (json!({"expression": "tag:web | all"}), "tag:web | all"),
            (json!({"tags": ["web", "eu"]}), "tag:web & tag:eu"),
            (json!({"ids": ["1", "2"]}), "id:1 | id:2"),
        ] {
            assert_eq!(target_expression(&json!({ "target": target })), shown);
        }
    }
}
