//! What the server may only do on this host with the signature of an approver whom the host has pinned.

use std::collections::BTreeSet;

use muster_protocol::CommandName;
use muster_protocol::identity::AgentPublicKey;
use muster_protocol::library::ruled_name;
use serde::Deserialize;
use serde_json::Value;

/// Most approvers of a host.
const MAX_APPROVERS: usize = 16;

/// `needs_approval` of a policy. What it leaves out needs an approval.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeedsApproval {
    /// Public keys, as `muster approver keygen` prints them.
    pub approvers: Vec<AgentPublicKey>,
    /// Scripts that need an approval; every script if absent.
    #[serde(default)]
    pub scripts: Option<BTreeSet<String>>,
    /// Ad-hoc commands need an approval.
    #[serde(default = "yes")]
    pub ad_hoc: bool,
    /// `restart`, `update`, `redeploy` and `shutdown` need an approval, and so do the versions that a
    /// group wants, which can have none.
    #[serde(default = "yes")]
    pub life_cycle: bool,
}

impl NeedsApproval {
    /// # Errors
    /// A sentence that names the field.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.approvers.len() {
            1..=MAX_APPROVERS => Ok(()),
            _ => Err(format!("needs_approval.approvers must hold 1 to {MAX_APPROVERS} keys")),
        }
    }

    /// True if a command needs an approval. Data that is neither a script nor an ad-hoc command does.
    pub fn concerns(&self, name: CommandName, data: &Value) -> bool {
        match name {
            CommandName::Execute => match data.get("steps") {
                None | Some(Value::Null) => self.concerns_one(data),
                Some(Value::Array(steps)) => {
                    let is_alone = data.get("script").is_none() && data.get("argv").is_none();
                    !is_alone || steps.iter().any(|step| self.concerns_one(step))
                }
                Some(_) => true,
            },
            CommandName::Restart
            | CommandName::Update
            | CommandName::Redeploy
            | CommandName::Shutdown => self.life_cycle,
            _ => false,
        }
    }
}

impl NeedsApproval {
    /// The same for one step, or for an execution without steps. It asks by the name that the plan reads:
    /// `library:deploy@1` is the script `library:deploy`, in a command as in the list.
    fn concerns_one(&self, data: &Value) -> bool {
        match (data.get("script"), data.get("argv")) {
            (Some(Value::String(script)), None | Some(Value::Null)) => {
                let name = ruled_name(script);
                let is_named = |listed: &String| ruled_name(listed) == name;
                self.scripts.as_ref().is_none_or(|scripts| scripts.iter().any(is_named))
            }
            (None | Some(Value::Null), Some(Value::Array(_))) => self.ad_hoc,
            _ => true,
        }
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Policy;

    const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn needed(fields: Value) -> Result<NeedsApproval, String> {
        let text = json!({ "needs_approval": fields }).to_string();
        Policy::parse(&text).map(|policy| policy.needs_approval.expect("given"))
    }

    #[test]
    fn what_a_policy_leaves_out_needs_an_approval() {
        let all = needed(json!({"approvers": [KEY]})).expect("valid");
        let some = json!({"approvers": [KEY], "scripts": ["deploy"], "ad_hoc": false, "life_cycle": false});
        let some = needed(some).expect("valid");
        let script = |name: &str| json!({ "script": name });
        let cases = [
            (CommandName::Execute, script("deploy"), true),
            (CommandName::Execute, script("status"), false),
            (CommandName::Execute, json!({"argv": ["true"]}), false),
            (CommandName::Execute, json!({"argv": ["true"], "script": "status"}), true),
            (CommandName::Execute, json!({}), true),
            (CommandName::Execute, json!({"steps": [script("status"), {"argv": ["true"]}]}), false),
            (CommandName::Execute, json!({"steps": [script("status"), script("deploy")]}), true),
            (CommandName::Execute, json!({"steps": [script("status"), {"steps": []}]}), true),
            (CommandName::Execute, json!({"steps": [], "script": "status"}), true),
            (CommandName::Execute, json!({"steps": {}, "script": "status"}), true),
            (CommandName::Restart, json!({}), false),
        ];
        for (name, data, is_named) in cases {
            assert!(all.concerns(name, &data), "{name} {data}");
            assert_eq!(some.concerns(name, &data), is_named, "{name} {data}");
        }
        for name in [CommandName::Ping, CommandName::Info, CommandName::Scripts] {
            assert!(!all.concerns(name, &json!({})), "{name}");
        }
    }

    #[test]
    fn a_policy_without_a_readable_approver_is_invalid() {
        for fields in [
            json!({}),
            json!({"approvers": []}),
            json!({"approvers": ["AAAA"]}),
            json!({"approvers": vec![KEY; 17]}),
            json!({"approvers": [KEY], "sripts": []}),
        ] {
            needed(fields.clone()).expect_err(&fields.to_string());
        }
    }
}
