//! Microsoft Teams, a workflow with "when a Teams webhook request is received":
//! <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>.
//! Adaptive cards: <https://adaptivecards.io/explorer/AdaptiveCard.html>, version 1.4.

use serde_json::{Value, json};

use super::{EventMessage, cut};
use crate::domain::integrations::event_type::Severity;

/// Longest text: a card has 28 KB.
const TEXT_CHARS: usize = 4_096;

/// The body of a message: one adaptive card.
pub fn format(message: &EventMessage) -> Value {
    let color = match message.event.severity() {
        Severity::Info => "accent",
        Severity::Resolved => "good",
        Severity::Warning => "warning",
        Severity::Error => "attention",
    };
    let mut body =
        vec![plain(&message.title, json!({"weight": "bolder", "size": "medium", "color": color}))];
    if let Some(text) = &message.text {
        body.push(plain(text, json!({})));
    }
    for (label, value) in message.facts.iter().filter(|_| message.text.is_none()) {
        body.push(plain(&format!("{label}: {value}"), json!({"spacing": "small"})));
    }
    body.push(plain(message.event.as_str(), json!({"isSubtle": true, "size": "small"})));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    });
    if let Some(link) = &message.link {
        card["actions"] =
            json!([{"type": "Action.OpenUrl", "title": "Open in Muster", "url": link}]);
    }
    json!({"type": "message", "attachments": [{
        "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card}]})
}

/// A text run shows no Markdown, unlike a text block.
fn plain(text: &str, mut style: Value) -> Value {
    style["type"] = json!("TextRun");
    style["text"] = json!(cut(text, TEXT_CHARS));
    let spacing = style.as_object_mut().and_then(|style| style.remove("spacing"));
    let mut block = json!({"type": "RichTextBlock", "inlines": [style]});
    if let Some(spacing) = spacing {
        block["spacing"] = spacing;
    }
    block
}
