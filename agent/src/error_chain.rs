//! The one place that formats an error together with its causes.

use std::error::Error;

/// Formats an error and its causes on one line, joined by colons.
///
/// A cause whose text already appears in the line is left out: some libraries repeat the text of
/// their cause in their own.
pub fn format(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in anyhow::Chain::new(error) {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: io::Error,
    }

    #[test]
    fn causes_follow_the_error_and_repeated_texts_are_left_out() {
        let layer = |text| Layer { text, source: io::Error::other("disk full") };
        assert_eq!(format(&layer("failed to write a")), "failed to write a: disk full");
        assert_eq!(format(&layer("failed to write a: disk full")), "failed to write a: disk full");
    }
}
