//! Discord, execute webhook: <https://docs.discord.com/developers/resources/webhook#execute-webhook>. Embed
//! limits: <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>.

use serde_json::{Value, json};

use super::{EventMessage, cut};

const TITLE_CHARS: usize = 256;
const DESCRIPTION_CHARS: usize = 4_096;
/// An embed has at most 6,000 characters in all.
const FIELD_CHARS: usize = 500;
const FIELDS: usize = 10;

/// The body of a message.
pub fn format(message: &EventMessage) -> Value {
    let mut embed = json!({
        "title": escape(&message.title, TITLE_CHARS),
        "color": message.color(),
        "timestamp": message.at,
        "footer": {"text": message.event.as_str()},
    });
    match &message.text {
        Some(text) => embed["description"] = json!(cut(text, DESCRIPTION_CHARS)),
        None => {
            let field = |(label, value): &(&str, String)| json!({"name": label, "value": escape(value, FIELD_CHARS), "inline": true});
            embed["fields"] = message.facts.iter().take(FIELDS).map(field).collect();
        }
    }
    if let Some(link) = &message.link {
        embed["url"] = json!(link);
    }
    // No text of a host mentions anybody.
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}

/// Without Markdown.
fn escape(text: &str, max_chars: usize) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\*_~`|>[]()#-".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    cut(&escaped, max_chars)
}
