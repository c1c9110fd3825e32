//! Rights of an API key as options: for a new key, and as changes of a key.

use serde_json::{Map, Value, json};

use crate::input::expiry::{Expiry, expiry};
use crate::input::role::Role;

/// Rights of a new key.
#[derive(Debug, clap::Args)]
pub struct Rights {
    /// Role, the most that the key can do [default: member]
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Scope of the key, such as commands:run; repeatable [default: all scopes of the role that you have]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// When the key expires: a time such as 2027-01-31T00:00:00Z, a duration such as 90d, or never [default: when
    /// your own key expires]
    #[arg(long, value_name = "TIME", alias = "expires-at", value_parser = expiry)]
    expires: Option<Expiry>,
    /// Let the key start work only on agents that this expression of tag: and id: matches [default: as your own key]
    #[arg(long, value_name = "EXPRESSION")]
    target: Option<String>,
    /// Let the key run only this script, and no ad-hoc or life-cycle commands; repeatable [default: as your own key]
    #[arg(long = "script", value_name = "SCRIPT")]
    scripts: Vec<String>,
    /// Number of agents that the key may reach with one request [default: as your own key]
    #[arg(long, value_name = "N")]
    max_fan_out: Option<u32>,
}

/// What `muster api-keys edit` changes.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct ApiKeyChanges {
    /// New name of the key
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Role, the most that the key can do
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Scope of the key; repeatable, replaces all scopes
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// When the key expires: a time such as 2027-01-31T00:00:00Z, a duration such as 90d, or never
    #[arg(long, value_name = "TIME", alias = "expires-at", value_parser = expiry)]
    expires: Option<Expiry>,
    /// Expression of tag: and id: that an agent must match, in addition to those of the key that created this one
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "any_target")]
    target: Option<String>,
    /// Remove the target of the key itself
    #[arg(long)]
    any_target: bool,
    /// Script that the key may run; repeatable, replaces the list
    #[arg(long = "script", value_name = "SCRIPT", conflicts_with = "any_script")]
    scripts: Vec<String>,
    /// Remove the list of scripts
    #[arg(long)]
    any_script: bool,
    /// Number of agents that the key may reach with one request
    #[arg(long, value_name = "N", conflicts_with = "any_fan_out")]
    max_fan_out: Option<u32>,
    /// Remove the largest fan-out
    #[arg(long)]
    any_fan_out: bool,
}

impl Rights {
    /// Only the given options; the server has the defaults.
    pub fn body(self) -> Map<String, Value> {
        let fields = [
            ("role", self.role.map(|role| role.as_str().into())),
            ("scopes", list(self.scopes)),
            ("expires_at", self.expires.map(|expiry| json!(expiry.0))),
            ("target", self.target.map(Value::from)),
            ("scripts", list(self.scripts)),
            ("max_fan_out", self.max_fan_out.map(Value::from)),
        ];
        given(fields)
    }
}

impl ApiKeyChanges {
    /// Only the given options; `null` removes a value.
    pub fn body(self) -> Map<String, Value> {
        let or_removed =
            |value: Option<Value>, is_removed: bool| value.or(is_removed.then_some(Value::Null));
        let fields = [
            ("name", self.name.map(Value::from)),
            ("role", self.role.map(|role| role.as_str().into())),
            ("scopes", list(self.scopes)),
            ("expires_at", self.expires.map(|expiry| json!(expiry.0))),
            ("target", or_removed(self.target.map(Value::from), self.any_target)),
            ("scripts", or_removed(list(self.scripts), self.any_script)),
            ("max_fan_out", or_removed(self.max_fan_out.map(Value::from), self.any_fan_out)),
        ];
        given(fields)
    }
}

fn list(values: Vec<String>) -> Option<Value> {
    (!values.is_empty()).then(|| json!(values))
}

fn given<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
