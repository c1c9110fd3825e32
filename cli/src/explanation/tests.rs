use serde_json::json;

use super::*;

const OPTIONS: OptionNames = &[
    option("timeout_ms", "--timeout"),
    option("grace_ms", "--overlap"),
    option("name", "NAME"),
    option("target", "--on or --tag"),
    option("target.tags", "--tag"),
    option("expires_at", "--expires-at").expects("an RFC 3339 time"),
    option("created_after", "--since"),
    option("created_before", "--until"),
    option("on_mismatch", "--on-mismatch"),
];

fn explained(code: &str, errors: Value) -> String {
    let document = json!({"code": code, "detail": "`x` does not fit.", "errors": errors});
    let problem = Problem::read(422, document.to_string().as_bytes(), None);
    explain(CliError::Refused(Box::new(problem)), OPTIONS).to_string()
}

#[test]
fn codes_and_limits_become_sentences_about_options() {
    for (field, code, limit, expected) in [
        ("data.timeout_ms", "too_large", json!(604_800_000), "--timeout must be at most 7d"),
        ("timeout_ms", "too_small", json!(1), "--timeout must be at least 1ms"),
        ("grace_ms", "too_large", json!(604_800_000), "--overlap must be at most 7d"),
        ("target", "required", json!(null), "--on or --tag is required"),
        ("target.tags", "too_many", json!(32), "--tag has too many values; the limit is 32"),
        ("expires_at", "invalid", json!(null), "--expires-at must be an RFC 3339 time"),
        ("name", "unknown_value", json!("a, b"), "NAME must be one of: a, b"),
        (
            "name",
            "unknown_field",
            json!(null),
            "the server does not support NAME; update the server",
        ),
        ("created_after", "conflict", json!("created_before"), "--since conflicts with --until"),
    ] {
        let errors = json!([{"field": field, "code": code, "limit": limit}]);
        assert_eq!(explained("invalid_field", errors), expected);
    }
}

#[test]
fn reason_of_the_server_for_an_invalid_value_is_kept() {
    let errors = json!([{"field": "expires_at", "code": "invalid", "reason": "is in the past"}]);
    assert_eq!(explained("invalid_field", errors), "--expires-at is in the past");
}

#[test]
fn several_wrong_fields_are_all_named() {
    let errors = json!([{"field": "target", "code": "required"},
        {"field": "timeout_ms", "code": "too_small", "limit": 1}]);
    assert_eq!(
        explained("invalid_field", errors),
        "--on or --tag is required; --timeout must be at least 1ms"
    );
}

#[test]
fn detail_is_shown_unchanged_where_there_are_no_own_words() {
    assert_eq!(explained("from_a_later_server", json!([])), "`x` does not fit.");
    for (field, code) in [("target.tags[0]", "invalid"), ("target.tags", "not_yet_known")] {
        let errors = json!([{"field": field, "code": code}]);
        assert_eq!(explained("invalid_field", errors), "`x` does not fit. [--tag]");
    }
    let errors = json!([{"field": "not_an_option", "code": "too_small", "limit": 1}]);
    assert_eq!(explained("invalid_field", errors), "`x` does not fit.");
}

#[test]
fn preflight_refusal_keeps_the_reasons_of_the_hosts_and_names_the_option() {
    for code in PREFLIGHT_CODES {
        let message = explained(code, json!([]));
        assert!(message.starts_with("`x` does not fit.\n"), "{message}");
        assert!(message.contains("--on-mismatch send"), "{message}");
    }
}

#[test]
fn known_codes_have_whole_sentences_without_fields_or_paths() {
    for code in ["no_agents", "secrets_need_ids_or_tags", "ambiguous_agent"] {
        let message = explained(code, json!([]));
        assert!(message != "`x` does not fit." && !message.contains("/api/"), "{message}");
    }
}

#[test]
fn detail_of_the_server_is_shown_for_the_codes_that_say_so() {
    for code in SHOWN_AS_ANSWERED {
        assert_eq!(sentence(code), None, "{code} has words of its own");
        assert_eq!(explained(code, json!([])), "`x` does not fit.");
    }
}

#[test]
fn commands_whose_users_write_fields_keep_the_detail() {
    let problem = Problem { message: "`x`".into(), code: "no_agents".into(), ..Problem::default() };
    assert_eq!(explain(CliError::Refused(Box::new(problem)), &[]).to_string(), "`x`");
}
