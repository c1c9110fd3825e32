//! `muster push`.

use std::path::PathBuf;

use muster_protocol::commands::file_transfer::PUSH;
use serde_json::{Value, json};

use super::{place, upload};
use crate::commands::commands::agent_count;
use crate::commands::commands::on_mismatch::OnMismatch;
use crate::commands::commands::rollout_options::RolloutOptions;
use crate::commands::commands::run::agent_run;
use crate::commands::commands::run::job_run::{self, JobWait};
use crate::commands::fleet::target_options::{
    TARGET, TARGET_EXPRESSION, TARGET_TAGS, TargetOptions,
};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::quantities::milliseconds;
use crate::session::Session;

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("file", "AGENT:PATH"),
    option("file.path", "AGENT:PATH").expects("a full path without `..`"),
    option("file.sha256", "FILE"),
    option("sha256", "FILE"),
    option("bytes", "FILE").expects("at most 1 GiB"),
    option("name", "FILE"),
    option("file.mode", "--mode").expects("three octal digits such as 0644"),
    option("file.owner", "--owner").expects("the name of a user"),
    option("expires_in_ms", "--expires"),
    option("confirm_agent_count", "--confirm-agents"),
    option("calendar_override", "--override-calendar").expects("a reason of 1 to 200 characters"),
    option("offline", "--offline"),
    option("on_mismatch", "--on-mismatch"),
    TARGET,
    TARGET_EXPRESSION,
    TARGET_TAGS,
    option("rollout", "--wave"),
    option("rollout.wave_size", "--wave").expects("a number, or a percentage such as 10%"),
    option("rollout.pause_ms", "--pause"),
    option("rollout.max_failures", "--max-failures")
        .expects("a number, or a percentage such as 5%"),
    option("rollout.count_in_flight", "--whole-waves"),
    option("rollout.health_gate", "--healthy-for"),
    option("rollout.health_gate.for_ms", "--healthy-for"),
    option("rollout.health_gate.within_ms", "--healthy-within"),
    option("rollout.offline", "--offline"),
];

/// Write a file on one agent or many
///
/// The policy of the host must list the folder (`files.write` in policy.json). The file is uploaded once, and each
/// host writes it whole or not at all. An upload that is interrupted continues when you repeat the command.
///
///   muster push app.conf web-1:/srv/app/app.conf
///   muster push app.conf web-1,web-2:/srv/app/app.conf --mode 0640
///   muster push app.conf --on tag:web --wave 10% /srv/app/app.conf
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// File to upload
    file: PathBuf,
    /// Agents and full path on them; with --on or --tag, only the path
    #[arg(value_name = "AGENT:PATH")]
    place: String,
    #[command(flatten)]
    target: TargetOptions,
    /// Permissions, such as 0644 [default: those of the file that is replaced, otherwise 0644]
    #[arg(long)]
    mode: Option<String>,
    /// User that the file belongs to [default: that of the file that is replaced]
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Wait this long for an offline or busy agent, such as 30s, 5m or 1h [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    expires: Option<u64>,
    /// What to do if a host's policy does not allow the push
    #[arg(long, value_enum, default_value_t = OnMismatch::Refuse)]
    on_mismatch: OnMismatch,
    /// Confirm that the push reaches this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N")]
    confirm_agents: Option<u32>,
    /// Start although a calendar holds it back, for this reason, which is audited
    #[arg(long, value_name = "REASON")]
    override_calendar: Option<String>,
    /// Print the id and exit without waiting for the end
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    rollout: RolloutOptions,
}

/// Uploads the file, writes it on the agents and, unless detached, waits for the end.
///
/// # Errors
/// [`CliError`]
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let (path, names) = match args.target.body() {
        Some(_) => (args.place.as_str(), Vec::new()),
        None => {
            let place = place::read(&args.place)?;
            (place.path, place.agents)
        }
    };
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        ids.push(session.agent_id(name, false).await?);
    }
    ids.sort_unstable();
    ids.dedup();
    let sha256 = upload::upload(&args.file, session).await?;
    let mut file = json!({"path": path, "sha256": sha256});
    for (field, value) in [("mode", &args.mode), ("owner", &args.owner)] {
        if let Some(value) = value {
            file[field] = value.as_str().into();
        }
    }
    let data = json!({"script": PUSH, "file": file});
    match (ids.as_slice(), args.target.body()) {
        ([id], None) => {
            if args.rollout.is_given() || args.on_mismatch == OnMismatch::Skip {
                let text = "--wave, --offline and --on-mismatch skip need --on or --tag, or several agents";
                return Err(CliError::Usage(text.into()));
            }
            let mut body = json!({ "command": "execute", "data": data });
            args.add_delivery(&mut body);
            match agent_run::run(session, id, &body, args.detach, false).await {
                Err(refusal) => {
                    let count = agent_count::confirm(refusal, args.confirm_agents)?;
                    body["confirm_agent_count"] = count.into();
                    agent_run::run(session, id, &body, args.detach, false).await
                }
                ended => ended,
            }
        }
        (ids, target) => {
            let target = target.unwrap_or_else(|| json!({ "ids": ids }));
            run_job(&args, session, data, target).await
        }
    }
}

async fn run_job(
    args: &Args,
    session: &Session,
    data: Value,
    target: Value,
) -> Result<u8, CliError> {
    let mut body = data;
    body["target"] = target;
    if let Some(rollout) = args.rollout.body() {
        body["rollout"] = rollout;
    }
    if let Some(offline) = args.rollout.offline()? {
        body["offline"] = offline.into();
    }
    args.add_delivery(&mut body);
    match job_run::run(session, &body, args.detach, JobWait::default()).await {
        Err(refusal) => {
            let count = agent_count::confirm(refusal, args.confirm_agents)?;
            body["confirm_agent_count"] = count.into();
            job_run::run(session, &body, args.detach, JobWait::default()).await
        }
        ended => ended,
    }
}

impl Args {
    fn add_delivery(&self, body: &mut Value) {
        if let Some(expires_in_ms) = self.expires {
            body["expires_in_ms"] = expires_in_ms.into();
        }
        self.on_mismatch.add_to(body);
        if let Some(count) = self.confirm_agents {
            body["confirm_agent_count"] = count.into();
        }
        if let Some(reason) = &self.override_calendar {
            body["calendar_override"] = reason.as_str().into();
        }
    }
}
