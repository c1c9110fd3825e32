//! Payloads against the shapes that the providers publish, written down here from their documentation:
//! the addresses are at the top of each format.

use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use super::samples::{ODD, of};
use super::{datadog, discord, pagerduty, slack, splunk, teams};
use crate::domain::integrations::event_type::EventType;

/// A shape: the fields with their types, `?` behind the name of one that may be missing. Unknown fields
/// fail. `text:N` is a text of 1 to N characters, `one:a|b` one of the words, `list:N` at most N items.
fn check(value: &Value, shape: &Value, path: &str) {
    match shape {
        Value::Object(fields) => {
            let object = value.as_object().unwrap_or_else(|| panic!("{path}: {value}"));
            for (name, shape) in fields {
                let required = name.trim_end_matches('?');
                match object.get(required) {
                    Some(value) => check(value, shape, &format!("{path}.{required}")),
                    None => assert!(name.ends_with('?'), "{path}.{required} is missing"),
                }
            }
            for name in object.keys() {
                let is_known = fields.keys().any(|known| known.trim_end_matches('?') == name);
                assert!(is_known, "{path}.{name} is not in the schema");
            }
        }
        Value::Array(shapes) => {
            let items = value.as_array().unwrap_or_else(|| panic!("{path}: {value}"));
            let most = shapes[1].as_u64().expect("a limit");
            assert!((1..=most).contains(&(items.len() as u64)), "{path}: {} items", items.len());
            for item in items {
                check(item, &shapes[0], path);
            }
        }
        Value::String(shape) => {
            let fits = match shape.split_once(':') {
                Some(("text", most)) => value.as_str().is_some_and(|text| {
                    (1..=most.parse().expect("a number")).contains(&text.chars().count())
                }),
                Some(("one", words)) => {
                    value.as_str().is_some_and(|text| words.split('|').any(|word| word == text))
                }
                Some(("is", expected)) => value.as_str() == Some(expected),
                _ => match shape.as_str() {
                    "number" => value.is_number(),
                    "integer" => value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "instant" => value.as_str().is_some_and(|text| text.ends_with('Z')),
                    "any" => true,
                    other => panic!("unknown shape {other}"),
                },
            };
            assert!(fits, "{path} is not {shape}: {value}");
        }
        other => panic!("unknown shape {other}"),
    }
}

fn each(format: impl Fn(&super::EventMessage) -> Value, shape: &Value) {
    for event in EventType::iter() {
        for name in ["web-1", ODD, &"x".repeat(5_000)] {
            check(&format(&of(event, name)), shape, event.as_str());
        }
    }
}

#[test]
fn discord_takes_every_message_and_mentions_no_person() {
    each(
        discord::format,
        &json!({
            "allowed_mentions": {"parse": "any"},
            "embeds": [{"title": "text:256", "color": "integer", "timestamp": "instant",
                "footer": {"text": "text:2048"}, "url?": "text:2048", "description?": "text:4096",
                "fields?": [{"name": "text:256", "value": "text:1024", "inline": "boolean"}, 25]}, 10],
        }),
    );
    let odd = discord::format(&of(EventType::AgentOffline, ODD));
    assert_eq!(odd["allowed_mentions"]["parse"], json!([]));
}

#[test]
fn slack_takes_every_message_and_mentions_no_person() {
    for event in EventType::iter() {
        for name in ["web-1", ODD, &"x".repeat(5_000)] {
            let body = slack::format(&of(event, name));
            let top = json!({"text": "text:40000", "unfurl_links": "boolean", "blocks": "any"});
            check(&body, &top, "message");
            let blocks = body["blocks"].as_array().expect("blocks");
            assert!(blocks.len() <= 50);
            for block in blocks {
                let shape = match block["type"].as_str() {
                    Some("header") => json!({"type": "is:header",
                        "text": {"type": "is:plain_text", "text": "text:150", "emoji": "boolean"}}),
                    Some("section") => json!({"type": "is:section",
                        "text": {"type": "is:plain_text", "text": "text:3000", "emoji": "boolean"}}),
                    _ => json!({"type": "is:context",
                        "elements": [{"type": "is:mrkdwn", "text": "text:3000"}, 10]}),
                };
                check(block, &shape, "block");
            }
            assert!(!body["text"].as_str().expect("text").contains("<!"), "{body}");
        }
    }
}

#[test]
fn teams_takes_every_message_as_an_adaptive_card_without_markup() {
    let inline = json!({"type": "is:TextRun", "text": "text:4096", "weight?": "one:lighter|default|bolder",
        "size?": "one:default|small|medium|large|extraLarge", "isSubtle?": "boolean",
        "color?": "one:default|dark|light|accent|good|warning|attention"});
    each(
        teams::format,
        &json!({"type": "is:message", "attachments": [{
            "contentType": "is:application/vnd.microsoft.card.adaptive", "contentUrl": "null",
            "content": {
                "$schema": "is:http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "is:AdaptiveCard", "version": "is:1.4",
                "body": [{"type": "is:RichTextBlock", "inlines": [inline, 1],
                    "spacing?": "one:default|none|small|medium|large|extraLarge|padding"}, 40],
                "actions?": [{"type": "is:Action.OpenUrl", "title": "text:100", "url": "text:2048"}, 6],
            }}, 1]}),
    );
    for name in [ODD, &"x".repeat(5_000)] {
        let body = teams::format(&of(EventType::JobFailed, name)).to_string();
        assert!(body.len() <= 28 * 1_024, "a card has at most 28 KB: {}", body.len());
    }
}

#[test]
fn pagerduty_opens_and_resolves_one_incident_of_a_resource() {
    let opened = json!({
        "routing_key": "is:key", "event_action": "is:trigger", "dedup_key": "text:255",
        "client": "text:255", "client_url?": "text:2048",
        "links?": [{"href": "text:2048", "text": "text:255"}, 10],
        "payload": {"summary": "text:1024", "source": "text:255",
            "severity": "one:critical|error|warning|info", "timestamp": "instant",
            "component": "text:255", "class": "text:255", "custom_details": "any"}});
    let resolved =
        json!({"routing_key": "is:key", "event_action": "is:resolve", "dedup_key": "text:255"});
    for event in EventType::iter() {
        for name in ["web-1", ODD, &"x".repeat(5_000)] {
            let body = pagerduty::format(&of(event, name), "key");
            let shape = if body["event_action"] == "resolve" { &resolved } else { &opened };
            check(&body, shape, event.as_str());
        }
    }
    let pair = |one: EventType, other: EventType| {
        let bodies = [one, other].map(|event| pagerduty::format(&of(event, "x"), "key"));
        assert_eq!(bodies[0]["dedup_key"], bodies[1]["dedup_key"]);
        let actions = bodies.map(|body| body["event_action"].clone());
        assert_eq!(actions, ["trigger", "resolve"]);
    };
    pair(EventType::AgentOffline, EventType::AgentOnline);
    pair(EventType::RolloutHalted, EventType::JobSucceeded);
    pair(EventType::JobFailed, EventType::JobSucceeded);
    pair(EventType::ScheduleMissed, EventType::ScheduleRecovered);
    pair(EventType::AlertOpened, EventType::AlertResolved);
}

#[test]
fn datadog_takes_every_event_and_its_metrics() {
    each(
        datadog::event,
        &json!({"title": "text:500", "text": "text:4000", "date_happened": "integer",
            "alert_type": "one:error|warning|info|success|user_update|recommendation|snapshot",
            "source_type_name": "text:100", "aggregation_key": "text:100", "host?": "text:255",
            "tags": ["text:200", 100]}),
    );
    each(
        datadog::metrics,
        &json!({"series": [{"metric": "text:200", "type": "integer", "tags": ["text:200", 100],
            "points": [{"timestamp": "integer", "value": "number"}, 1]}, 100]}),
    );
}

#[test]
fn splunk_takes_every_event() {
    each(
        splunk::format,
        &json!({"time": "number", "host": "text:255", "source": "text:255",
            "sourcetype": "text:255",
            "event": {"id": "text:100", "type": "text:100", "title": "text:400", "data": "any",
                "text?": "text:1000000"}}),
    );
}

#[test]
fn a_wrong_payload_fails_the_check() {
    let wrong = json!({"routing_key": "key", "event_action": "trigger"});
    let shape = json!({"routing_key": "is:key", "event_action": "is:resolve"});
    let failed = std::panic::catch_unwind(|| check(&wrong, &shape, "event"));
    assert!(failed.is_err());
}
