//! The progress of a job in a few words.
//!
//! Pure.

use serde_json::Value;

use crate::output::text::sanitize;

/// The executions of a job by state: `1 failed, 2 succeeded`.
pub fn summarize_counts(job: &Value) -> String {
    let parts: Vec<_> =
        counts(job).map(|(state, count)| format!("{count} {}", sanitize(state))).collect();
    parts.join(", ")
}

/// The states of a job's executions, each with its count.
pub fn counts(job: &Value) -> impl Iterator<Item = (&str, u64)> {
    let counts = job.get("counts").and_then(Value::as_object);
    let counts = counts.into_iter().flatten();
    counts.map(|(state, count)| (state.as_str(), count.as_u64().unwrap_or(0)))
}

/// The current wave of a rollout: `wave 1 of 3`.
pub fn current_wave(job: &Value) -> Option<String> {
    let number = |name| job.get("rollout")?.get(name)?.as_u64();
    Some(format!("wave {} of {}", number("wave")?, number("wave_count")?))
}

/// The message for a rollout that needs a decision.
pub fn resume_hint(id: &str) -> String {
    format!("run `muster jobs resume {id}` to continue, or `muster jobs abort {id}` to end it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_and_wave_are_shown_in_words() {
        let job = json!({"counts": {"failed": 1, "succeeded": 2},
            "rollout": {"wave": 1, "wave_count": 3}});
        assert_eq!(summarize_counts(&job), "1 failed, 2 succeeded");
        assert_eq!(current_wave(&job).as_deref(), Some("wave 1 of 3"));
        assert_eq!(current_wave(&json!({"rollout": null})), None);
    }
}
