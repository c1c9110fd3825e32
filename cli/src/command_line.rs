//! What an execution or a job runs, as a person would type it.
//!
//! Pure.

use serde_json::Value;

/// Characters of a command line that a table shows.
const MAX_SHOWN_CHARS: usize = 60;

/// The script, or the ad-hoc command as one line that is cut where it is long; "-" if there is neither.
pub fn work(item: &Value) -> String {
    if let Some(script) = item.get("script").and_then(Value::as_str) {
        return script.to_owned();
    }
    let words = item.get("argv").and_then(Value::as_array);
    let words: Vec<_> = words.into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    shortened(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    // No word holds a NUL byte, which alone can't be quoted.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(MAX_SHOWN_CHARS) {
        Some(_) => line.chars().take(MAX_SHOWN_CHARS - 1).chain(['…']).collect(),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_script_has_its_name_and_a_command_its_words() {
        assert_eq!(work(&json!({"script": "deploy"})), "deploy");
        assert_eq!(work(&json!({"argv": ["sh", "-c", "echo $A"]})), "sh -c 'echo $A'");
        assert_eq!(work(&json!({"script": null})), "-");
    }

    #[test]
    fn a_long_command_is_cut_and_says_so() {
        let cut = work(&json!({"argv": ["é".repeat(100)]}));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (MAX_SHOWN_CHARS, true), "{cut}");
        let whole = work(&json!({"argv": ["x".repeat(MAX_SHOWN_CHARS)]}));
        assert_eq!(whole.chars().count(), MAX_SHOWN_CHARS);
    }
}
