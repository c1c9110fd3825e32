//! Formats an error with its causes on one line. The only formatter of error chains in the workspace.

use std::error::Error;

/// The error and its causes, separated by `: `.
///
/// A cause whose text already appears in the line is left out: some libraries repeat the cause in
/// their own message.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
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
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn chain_of(texts: &[&'static str]) -> Layer {
        let (text, causes) = texts.split_first().expect("at least one");
        let source = (!causes.is_empty()).then(|| Box::new(chain_of(causes)));
        Layer { text, source }
    }

    #[test]
    fn causes_follow_the_error_on_one_line() {
        let error = chain_of(&["failed to open a", "permission denied"]);
        assert_eq!(error_chain(&error), "failed to open a: permission denied");
    }

    #[test]
    fn cause_that_the_error_already_quotes_is_left_out() {
        let error = chain_of(&["failed to connect: refused", "refused", "os error 111"]);
        assert_eq!(error_chain(&error), "failed to connect: refused: os error 111");
    }
}
