//! `muster approvals rules`: which work waits for another person's yes.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::input::quantities::milliseconds;
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::about;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("TARGET", "target"),
    Column::of("SCRIPTS", "scripts"),
    Column::of("AD HOC", "ad_hoc"),
    Column::of("LIFE CYCLE", "life_cycle"),
    Column::of("ABOVE", "fan_out_above"),
    Column::of("ID", "id"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all rules (default action)
    List,
    /// Add a rule: work that matches all of its options waits for an approval
    Add(Add),
    /// Delete a rule; requests that it asked for still need their approval
    Delete {
        /// Rule: an id or a full name
        rule: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Name of the rule
    name: String,
    /// Expression of tag: and id: that at least one agent must match [default: any agent]
    #[arg(long, value_name = "EXPRESSION")]
    target: Option<String>,
    /// Script that the rule is about; repeatable [default: everything, unless --ad-hoc or --life-cycle is given]
    #[arg(long = "script", value_name = "SCRIPT")]
    scripts: Vec<String>,
    /// Ask for ad-hoc commands
    #[arg(long)]
    ad_hoc: bool,
    /// Ask for restart, update, redeploy and shutdown
    #[arg(long)]
    life_cycle: bool,
    /// Number of agents above which the rule holds [default: any number]
    #[arg(long, value_name = "N")]
    fan_out_above: Option<u32>,
    /// Time that a request waits for a decision, at most 30d [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    wait: Option<u64>,
}

impl Add {
    /// Only the given options; the server has the defaults.
    fn body(self) -> Value {
        let mut body = Map::new();
        body.insert("name".into(), json!(self.name));
        body.insert("scripts".into(), json!(self.scripts));
        body.insert("ad_hoc".into(), json!(self.ad_hoc));
        body.insert("life_cycle".into(), json!(self.life_cycle));
        let optional = [
            ("target", self.target.map(Value::from)),
            ("fan_out_above", self.fan_out_above.map(Value::from)),
            ("wait_ms", self.wait.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        }
        body.into()
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let request = session.api.request(Method::GET, &["approvals", "rules"]);
            let rules = session.api.json(request).await?;
            session.output.list(&rules, &COLUMNS, "No rules: nothing waits for an approval.")?;
            Ok(0)
        }
        Action::Add(add) => {
            let code = session
                .change(
                    Method::POST,
                    &["approvals", "rules"],
                    &add.body(),
                    about("Rule", "is added"),
                )
                .await?;
            warn_without_approvers(session).await;
            Ok(code)
        }
        Action::Delete { rule } => {
            let id = session.exact_id_of(ResourceKind::ApprovalRule, &rule).await?;
            session.delete(("Rule", &rule), &["approvals", "rules", &id]).await
        }
    }
}

/// Prints a warning if fewer than two people can approve: then no other person can approve what one of them
/// requests. Says nothing if the members can't be read.
async fn warn_without_approvers(session: &Session) {
    let Ok(page) = session.api.list(&["members"], &[], None).await else { return };
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let may_approve = |member: &&Value| member["role"] == "owner" || member["role"] == "admin";
    let count = items.iter().filter(may_approve).count();
    if count < 2 {
        print_note(&format!(
            "warning: {} can approve (owners and admins), and no person can approve an own request; invite another one with `muster members invite ADDRESS --role admin`",
            match count {
                0 => "no member",
                _ => "only one member",
            }
        ));
    }
}
