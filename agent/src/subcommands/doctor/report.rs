//! Prints the findings for people and programs.

use std::fmt::Write as _;

use super::finding::{Check, CheckStatus, Finding};

/// The format of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// One line per check, hints below.
    Table,
    /// An array of `{check, status, detail, hint}`.
    Json,
    /// The first problem and what to do about it, on one line; nothing if there is none.
    Brief,
}

/// The text to print; empty if there is nothing to report.
pub fn render(findings: &[Finding], format: ReportFormat) -> String {
    match format {
        ReportFormat::Table => table(findings),
        // Plain structs with string keys, so serialising can't fail.
        ReportFormat::Json => serde_json::to_string_pretty(findings).unwrap_or_default() + "\n",
        ReportFormat::Brief => brief(findings),
    }
}

/// The first check that failed; later failures may only follow from it.
pub fn root_cause(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| finding.has_failed())
}

fn table(findings: &[Finding]) -> String {
    let width = Check::ALL.iter().map(|check| check.name().len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { check, status, detail, hint } in findings {
        let (status, check) = (status.word(), check.name());
        let widest = CheckStatus::Skipped.word().len();
        // Writing to a string can't fail.
        let _ = writeln!(text, "{status:widest$}  {check:width$}  {detail}");
        if let Some(hint) = hint {
            let _ = writeln!(text, "{:indent$}{hint}", "", indent = widest + width + 6);
        }
    }
    text
}

fn brief(findings: &[Finding]) -> String {
    let Some(Finding { check, detail, hint, .. }) = root_cause(findings) else {
        return String::new();
    };
    let hint = hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
    // One line, even if a system error contains line breaks.
    let line = format!("{}: {detail}{hint}", check.name()).replace(['\n', '\r'], " ");
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok(Check::Configuration, "all is said"),
            Finding::warn(Check::Disk, "little", "buy more"),
            Finding::fail(Check::Dns, "no\nname", "write it down"),
            Finding::skipped_after(Check::Tcp, Check::Dns),
            Finding::fail(Check::Key, "none", "make one"),
        ]
    }

    #[test]
    fn the_table_has_aligned_lines_with_hints_below() {
        let text = render(&findings()[..2], ReportFormat::Table);
        let expected = "ok       configuration    all is said\n\
                        warn     disk             little\n                            buy more\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_brief_report_is_one_line_for_the_first_failure_or_empty() {
        assert_eq!(render(&findings(), ReportFormat::Brief), "dns: no name; write it down\n");
        assert_eq!(render(&findings()[..2], ReportFormat::Brief), "");
    }

    #[test]
    fn the_json_report_is_an_array_of_objects_with_four_fields() {
        let text = render(&findings()[2..3], ReportFormat::Json);
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let expected = serde_json::json!([
            {"check": "dns", "status": "fail", "detail": "no\nname", "hint": "write it down"},
        ]);
        assert_eq!(read, expected);
    }

    #[test]
    fn checks_have_the_same_names_in_json_and_on_the_screen() {
        for check in Check::ALL {
            assert_eq!(serde_json::json!(check), check.name());
        }
        for status in [CheckStatus::Ok, CheckStatus::Warn, CheckStatus::Fail, CheckStatus::Skipped]
        {
            assert_eq!(serde_json::json!(status), status.word());
        }
    }
}
