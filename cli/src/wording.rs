//! The server's refusals in words of the command line. Its sentences are for those who write requests
//! themselves and name fields; here the options are named that stand for them.
//!
//! Pure. Goes by the problem's code; what is not known here is said as the server says it.

use crate::error::CliError;

/// Words of the server, and those of the command line. A phrase stands before words in it.
type Words = &'static [(&'static str, &'static str)];

/// What hosts would not carry out, and what no host would.
const MISMATCHES: Words = &[
    ("say `\"on_mismatch\": \"send\"`", "say --on-mismatch send"),
    ("send it in `secret_parameters`", "give it with --secret"),
    ("`argv`", "the command"),
];

const FIELDS: Words = &[
    ("`data.timeout_ms` must be 1 to 604800000", "--timeout must be 1ms to 168h"),
    ("`expires_in_ms` must be 1 to 2592000000", "--expires must be 1ms to 720h"),
    ("`data.script`", "the name of a script"),
    ("`rollout.wave_size`", "--wave"),
    ("`rollout.max_failures`", "--max-failures"),
    ("`rollout.pause_ms` must be 0 to 86400000", "--pause must be at most 24h"),
    ("`rollout.health_gate.for_ms` must be 0 to 86400000", "--healthy-for must be at most 24h"),
    (
        "`rollout.health_gate.within_ms` must be 1 to 86400000",
        "--healthy-within must be 1ms to 24h",
    ),
    ("`rollout.health_gate.within_ms`", "--healthy-within"),
    ("`for_ms`", "--healthy-for"),
    ("`wave_size`", "--wave"),
    ("`max_failures`", "--max-failures"),
    ("`healthy_for_ms` must be at most 86400000", "--healthy-for must be at most 24h"),
    ("`desired_version`", "--version"),
    ("`target`", "--on or --tag"),
    ("`max_agents`", "--max-agents"),
    ("`expires_at`", "--expires-at"),
    ("`grace_ms` must be at most seven days", "--grace-ms must be at most 604800000, seven days"),
    ("`tags`", "--tag"),
    ("`name`", "the name"),
];

const TARGETS: Words = &[
    ("give ids or tags instead", "use --tag instead"),
    ("belong in an expression", "belong into --on"),
    ("`tags`", "--tag"),
];

const FILTERS: Words = &[
    ("`created_after` must be before `created_before`", "--since must be before --until"),
    ("`requested_by`", "--by"),
    ("`job_id`", "--job"),
    ("`agent_id`", "--agent"),
    ("`script`", "--script"),
    ("`state`", "--state"),
    ("`trigger`", "--trigger"),
    ("state: unknown variant", "--state: unknown word"),
];

const BODIES: Words = &[("expires_at: expected", "--expires-at: expected")];

fn words(code: &str) -> Words {
    match code {
        "unknown_script" | "invalid_parameters" | "invalid_argv" | "argv_not_allowed"
        | "hosts_would_refuse" => MISMATCHES,
        "invalid_field" => FIELDS,
        "invalid_target" => TARGETS,
        "invalid_query" => FILTERS,
        "invalid_body" => BODIES,
        "no_agents" => {
            &[("look at it with /api/targets/preview", "see `muster agents list --on EXPRESSION`")]
        }
        "unknown_agent" => &[("see /api/agents", "see `muster agents`")],
        "secrets_need_ids_or_tags" => &[(
            "name the agents of a job with secrets by ids or tags",
            "name the agents with --tag, or one agent alone",
        )],
        _ => &[],
    }
}

/// A sentence that came with a code, from the server or a host.
pub fn in_options(code: &str, sentence: &str) -> String {
    let sentence = if code == "invalid_body" { without_place(sentence) } else { sentence };
    words(code)
        .iter()
        .fold(sentence.to_owned(), |sentence, (field, option)| sentence.replace(field, option))
}

/// A sentence that does not say where in a body that nobody has typed it goes wrong.
fn without_place(sentence: &str) -> &str {
    let is_place = |place: &str| place.chars().all(|c| c.is_ascii_digit() || " column".contains(c));
    match sentence.rsplit_once(" at line ") {
        Some((said, place)) if is_place(place) => said,
        _ => sentence,
    }
}

/// An error whose sentence names options; any but a refusal is as it was.
pub fn of_error(error: CliError) -> CliError {
    match error {
        CliError::Refused { status, code: Some(code), sentence, column, retry_after_s } => {
            let sentence = in_options(&code, &sentence);
            CliError::Refused { status, code: Some(code), sentence, column, retry_after_s }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_options_by_its_code() {
        for (code, said, told) in [
            (
                "unknown_script",
                "the host would refuse this: vm: no script `on_mismatch`. Nothing was sent; to leave it to the hosts, say `\"on_mismatch\": \"send\"`",
                "the host would refuse this: vm: no script `on_mismatch`. Nothing was sent; to leave it to the hosts, say --on-mismatch send",
            ),
            (
                "invalid_parameters",
                "parameter `T` is declared secret: send it in `secret_parameters`",
                "parameter `T` is declared secret: give it with --secret",
            ),
            (
                "invalid_field",
                "`rollout.health_gate.within_ms` is less than `for_ms`: no wave could ever pass",
                "--healthy-within is less than --healthy-for: no wave could ever pass",
            ),
            (
                "invalid_body",
                "expires_at: expected an RFC 3339 instant at line 1 column 24",
                "--expires-at: expected an RFC 3339 instant",
            ),
            (
                "invalid_target",
                "`tags`: it holds a space; patterns such as web-* belong in an expression",
                "--tag: it holds a space; patterns such as web-* belong into --on",
            ),
        ] {
            assert_eq!(in_options(code, said), told);
        }
    }

    #[test]
    fn what_is_not_known_is_said_as_the_server_says_it() {
        let sentence = "`tags` are out of fashion";
        assert_eq!(in_options("of_a_later_server", sentence), sentence);
        assert_eq!(in_options("no_agents", sentence), sentence);
    }
}
