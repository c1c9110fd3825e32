//! The findings as people and programs want them.

use std::fmt::Write as _;

use super::finding::{Check, CheckStatus, Finding};

/// Which form the report takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// A line a check, remedies below.
    Table,
    /// An array of `{check, status, detail, hint}`.
    Json,
    /// Nothing, or one line: the first thing that failed, and what to do.
    Brief,
}

/// The text to print; empty if there is nothing to say.
pub fn render(findings: &[Finding], format: ReportFormat) -> String {
    match format {
        ReportFormat::Table => table(findings),
        // Plain structs with string keys: there is nothing for serialising to fail on.
        ReportFormat::Json => serde_json::to_string_pretty(findings).unwrap_or_default() + "\n",
        ReportFormat::Brief => brief(findings),
    }
}

/// The first check that failed: what comes after may only follow from it.
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
    // One line, whatever a system put into its message.
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
    fn people_get_aligned_lines_with_remedies_below() {
        let text = render(&findings()[..2], ReportFormat::Table);
        let expected = "ok       configuration    all is said\n\
                        warn     disk             little\n                            buy more\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_brief_form_is_one_line_of_the_first_failure_or_nothing() {
        assert_eq!(render(&findings(), ReportFormat::Brief), "dns: no name; write it down\n");
        assert_eq!(render(&findings()[..2], ReportFormat::Brief), "");
    }

    #[test]
    fn programs_get_an_array_with_the_four_fields() {
        let text = render(&findings()[2..3], ReportFormat::Json);
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let expected = serde_json::json!([
            {"check": "dns", "status": "fail", "detail": "no\nname", "hint": "write it down"},
        ]);
        assert_eq!(read, expected);
    }

    #[test]
    fn names_of_checks_are_the_same_on_the_wire_and_on_the_screen() {
        for check in Check::ALL {
            assert_eq!(serde_json::json!(check), check.name());
        }
        for status in [CheckStatus::Ok, CheckStatus::Warn, CheckStatus::Fail, CheckStatus::Skipped]
        {
            assert_eq!(serde_json::json!(status), status.word());
        }
    }
}
