//! `echo`: returns what was sent.

use serde_json::{Value, json};

/// The message, or all of the data if there is no message.
pub fn answer(data: &Value) -> Value {
    match data.get("message") {
        Some(message) => json!({"message": message}),
        None => json!({"message": data}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_or_all_of_the_data_is_returned() {
        assert_eq!(answer(&json!({"message": "hi"})), json!({"message": "hi"}));
        assert_eq!(answer(&json!({"a": 1})), json!({"message": {"a": 1}}));
    }
}
