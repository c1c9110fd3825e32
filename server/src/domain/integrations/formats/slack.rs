//! Slack, incoming webhooks: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
//! and <https://docs.slack.dev/reference/block-kit/blocks>.

use serde_json::{Value, json};

use super::{EventMessage, cut};

/// Longest text of a header block.
const HEADER_CHARS: usize = 150;
/// Longest text of a section block.
const SECTION_CHARS: usize = 3_000;

/// The body of a message.
pub fn format(message: &EventMessage) -> Value {
    let mut blocks = vec![json!({"type": "header",
        "text": {"type": "plain_text", "text": cut(&message.title, HEADER_CHARS), "emoji": false}})];
    let text = message.plain_text();
    if !text.is_empty() {
        blocks.push(json!({"type": "section",
            "text": {"type": "plain_text", "text": cut(&text, SECTION_CHARS), "emoji": false}}));
    }
    let link = message.link.as_ref().map(|link| format!("<{}|Open in Muster> · ", escape(link)));
    let context = format!("{}`{}`", link.unwrap_or_default(), message.event.as_str());
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": context}]}));
    json!({"text": escape(&message.title), "blocks": blocks, "unfurl_links": false})
}

/// The characters that Slack reads as markup of links and mentions.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
