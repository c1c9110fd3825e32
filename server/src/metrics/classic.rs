//! Prometheus' own text format 0.0.4, for tools that do not read OpenMetrics.
//!
//! The samples of both formats are the same. They differ in the metadata: the classic format names a
//! counter as its sample, with `_total`, and has neither units nor an end mark.

/// Rewrites a text in the OpenMetrics format.
pub fn from_open_metrics(text: &str) -> String {
    let is_counter = |name: &str| {
        let line = format!("# TYPE {name} counter");
        text.lines().any(|other| other == line)
    };
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF"), None, None) | (Some("#"), Some("UNIT"), ..) => continue,
            (Some("#"), Some(kind), Some(name), Some(rest)) if is_counter(name) => {
                classic.push_str(&format!("# {kind} {name}_total {rest}"));
            }
            _ => classic.push_str(line),
        }
        classic.push('\n');
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_their_samples_and_units_and_end_are_left_out() {
        let open = "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
            a_bytes_total{x=\"# TYPE b counter\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n";
        let classic = "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\n\
            a_bytes_total{x=\"# TYPE b counter\"} 1\n# HELP b B.\n# TYPE b gauge\nb 2\n";
        assert_eq!(from_open_metrics(open), classic);
    }
}
