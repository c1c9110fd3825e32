//! `muster storage`: what the tenant stores, its quota, and when it is full; and the deletion of old history.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::quantities::milliseconds;
use crate::output::table::{Column, table};
use crate::output::text::sanitize;
use crate::output::time_format::TimeFormat;
use crate::session::Session;

const CAUSES: [Column; 4] = [
    Column::of("CAUSE", "cause"),
    Column::of("ROWS", "row_count"),
    Column::by("FILES", |cause| size(&cause["file_bytes"])),
    Column::by("ROWS, ESTIMATED", |cause| size(&cause["estimated_row_bytes"])),
];
const SCRIPTS: [Column; 5] = [
    Column::by("SCRIPT", script),
    Column::of("EXECUTIONS", "execution_count"),
    Column::by("HISTORY, ESTIMATED", |script| size(&script["history_bytes"])),
    Column::by("OUTPUT", |script| size(&script["output_bytes"])),
    Column::by("WRITTEN", |script| size(&script["written_bytes"])),
];
const TENANTS: [Column; 4] = [
    Column::of("TENANT", "name"),
    Column::by("STORED", |tenant| size(&tenant["total_bytes"])),
    Column::by("COUNTED", |tenant| size(&tenant["counted_bytes"])),
    Column::by("QUOTA", |tenant| size(&tenant["limit_bytes"])),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[option("older_than_ms", "--older-than")];

/// Show what history, output, telemetry and audit log take, by script, the quota, and when disk or quota are full
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is stored (default action)
    Show,
    /// Delete old history of your tenant, with its output; the audit log stays
    ///
    ///   muster storage purge --older-than 90d --dry-run
    #[command(verbatim_doc_comment)]
    Purge {
        /// Delete what is older than this and has ended, such as 90d; 0s: everything that has ended
        #[arg(long, value_name = "TIME", value_parser = milliseconds)]
        older_than: u64,
        /// Only show how much would be deleted
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let time = session.output.time;
    match args.action.unwrap_or(Action::Show) {
        Action::Show => {
            let request = session.api.request(Method::GET, &["storage"]);
            let report = session.api.json(request).await?;
            session.output.answer(&report, |report| text(report, time))?;
            Ok(0)
        }
        Action::Purge { older_than, dry_run } => {
            let body = json!({"older_than_ms": older_than});
            let path: &[&str] =
                if dry_run { &["storage", "purge", "preview"] } else { &["storage", "purge"] };
            let said = |answer: &Value| match dry_run {
                true => preview(answer, time),
                false => requested(answer, time),
            };
            session.change(Method::POST, path, &body, said).await
        }
    }
}

fn preview(preview: &Value, time: TimeFormat) -> String {
    let before = time.instant(preview["history_before"].as_str().unwrap_or_default());
    match preview["command_count"].as_u64() {
        Some(1) => format!("1 execution from before {before} would be deleted, with its output."),
        count => format!(
            "{} executions from before {before} would be deleted, with their output.",
            count.unwrap_or_default()
        ),
    }
}

fn requested(purge: &Value, time: TimeFormat) -> String {
    let before = time.instant(purge["history_before"].as_str().unwrap_or_default());
    format!(
        "The server deletes what has ended and is from before {before}; `muster storage` says when it is done."
    )
}

/// How far the last purge is.
fn last_purge(purge: &Value, time: TimeFormat) -> Option<String> {
    let before = sanitize(&time.instant(purge["history_before"].as_str()?));
    Some(match purge["finished_at"].as_str() {
        Some(at) => format!(
            "Last purge: history from before {before} was deleted; done {}.",
            sanitize(&time.instant(at))
        ),
        None => format!("A purge is under way: history from before {before} is being deleted."),
    })
}

fn text(report: &Value, time: TimeFormat) -> String {
    let Some(measured_at) = report["measured_at"].as_str() else {
        return "Nothing was measured yet; the server measures soon after its start.".to_owned();
    };
    let rows = |items: &Value, columns: &[Column]| {
        table(items.as_array().map(Vec::as_slice).unwrap_or_default(), columns, None, time)
    };
    let quota = &report["quota"];
    let (counted, limit) = (size(&quota["counted_bytes"]), &quota["limit_bytes"]);
    let of_limit = if limit.is_null() { "no quota".into() } else { format!("of {}", size(limit)) };
    let mut parts = vec![
        format!("Measured {}.", sanitize(&time.instant(measured_at))),
        format!(
            "Stored: {}. Against the quota: {counted} ({of_limit}).",
            size(&report["total_bytes"])
        ),
        format!("{}.", sentence(report)),
    ];
    parts.extend(warning(quota).map(str::to_owned));
    parts.extend(last_purge(&report["purge"], time));
    parts.extend([String::new(), rows(&report["causes"], &CAUSES)]);
    if report["scripts"].as_array().is_some_and(|scripts| !scripts.is_empty()) {
        parts.extend([String::new(), rows(&report["scripts"], &SCRIPTS)]);
    }
    if report["other_script_count"].as_u64().is_some_and(|count| count > 0) {
        let (count, others) = (&report["other_script_count"], &report["other_scripts"]);
        parts.push(format!("{count} other scripts: {} of output", size(&others["output_bytes"])));
    }
    let server = &report["server"];
    if !server.is_null() {
        let (free, disk) = (size(&server["disk_free_bytes"]), size(&server["disk_bytes"]));
        parts.extend([
            String::new(),
            format!(
                "Server: database {}; {free} of {disk} free on its disk. {}.",
                size(&server["database_bytes"]),
                sentence(server)
            ),
            rows(&server["tenants"], &TENANTS),
        ]);
    }
    parts.join("\n")
}

/// What a person must know of a quota that is nearly or completely used.
fn warning(quota: &Value) -> Option<&'static str> {
    match quota["state"].as_str()? {
        "nearly_full" => Some(
            "Warning: more than 80 % of the quota is used. New executions are refused when it is reached; ask the operator of the server for a larger one.",
        ),
        "reached" => Some(
            "The quota is reached: new executions are refused. Delete old history with `muster storage purge`, ask the operator of the server for a larger quota, or wait until retention deletes it.",
        ),
        _ => None,
    }
}

/// The forecast, as the start of a sentence.
fn sentence(report: &Value) -> String {
    let text = sanitize(report["forecast"]["sentence"].as_str().unwrap_or("no forecast"));
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    first.to_uppercase() + rest
}

fn script(script: &Value) -> String {
    match script["script"].as_str() {
        Some("") => "(ad-hoc)".to_owned(),
        Some(name) => name.to_owned(),
        None => "(other commands)".to_owned(),
    }
}

/// A size with a unit; `-` if there is none.
fn size(bytes: &Value) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let Some(bytes) = bytes.as_u64() else { return "-".to_owned() };
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_have_the_largest_unit_that_fits() {
        let shown = [0, 1_023, 1_024, 1_536, 5 << 20, u64::MAX].map(|bytes| size(&json!(bytes)));
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "16383.9 PiB"]);
        assert_eq!(size(&Value::Null), "-");
    }

    #[test]
    fn report_names_the_script_that_takes_most_and_no_control_characters_of_hosts() {
        let script = json!({"script": "sc\u{1b}an", "execution_count": 3, "history_bytes": 1_500,
            "output_bytes": 2 << 20, "written_bytes": 9 << 20});
        let cause = json!({"cause": "output", "row_count": 3, "file_bytes": 2 << 20, "estimated_row_bytes": 300});
        let report = json!({"measured_at": "2026-01-31T12:00:00.000Z", "total_bytes": 3 << 20,
            "quota": {"limit_bytes": 5 << 20, "counted_bytes": 4 << 20, "state": "nearly_full"},
            "forecast": {"sentence": "quota full in 19 days; `scan` writes 61 %"},
            "causes": [cause], "scripts": [script], "other_script_count": 0, "server": null});
        let text = text(&report, TimeFormat::Utc);
        assert!(text.contains("4.0 MiB (of 5.0 MiB)"), "{text}");
        assert!(text.contains("Warning: more than 80 %"), "{text}");
        assert!(text.contains("Quota full in 19 days; `scan` writes 61 %."), "{text}");
        assert!(text.contains("9.0 MiB") && !text.contains('\u{1b}'), "{text}");
    }
}
