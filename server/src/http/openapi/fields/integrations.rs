//! Fields of integrations: bounds and patterns from the constants that the server checks.

use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use super::super::shapes::{or_null, reference};
use super::texts::email;
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::{
    IntegrationKind, MAX_KEY_BYTES, MAX_OFFLINE_AFTER_MS, MAX_RECEIVERS,
};
use crate::domain::outbound::MAX_URL_BYTES;

/// Schema, field, and what the field is.
pub(super) fn all() -> Vec<(&'static str, &'static str, Value)> {
    let chosen: Vec<&str> = EventType::chosen().map(EventType::as_str).collect();
    let types = json!({"type": "string", "enum": chosen});
    let kinds: Vec<&str> = IntegrationKind::iter().map(IntegrationKind::as_str).collect();
    let grace = json!({"type": ["integer", "null"], "minimum": 0, "maximum": MAX_OFFLINE_AFTER_MS});
    let mut fields = Vec::new();
    for (schema, is_new) in [("CreateIntegration", true), ("UpdateIntegration", false)] {
        let given = |shape: Value| if is_new { shape } else { or_null(&shape) };
        let list = json!({"type": "array", "items": types, "minItems": 1});
        fields.extend([
            (schema, "kind", given(json!({"type": "string", "enum": kinds}))),
            (schema, "name", given(reference("Name"))),
            (schema, "settings", given(reference("IntegrationSettings"))),
            (schema, "event_types", given(list)),
            (schema, "offline_after_ms", grace.clone()),
        ]);
    }
    let text = |most: usize| json!({"type": ["string", "null"], "minLength": 1, "maxLength": most});
    fields.extend([
        ("IntegrationSettings", "url", text(MAX_URL_BYTES)),
        ("IntegrationSettings", "key", text(MAX_KEY_BYTES)),
        (
            "IntegrationSettings",
            "to",
            json!({"type": ["array", "null"], "items": email(), "minItems": 1,
                "maxItems": MAX_RECEIVERS}),
        ),
    ]);
    fields
}
