//! Integrations: events of a tenant, sent to chat, incident and metric services.

mod broken_connections;
mod command_line;
mod kinds;
mod queue;
mod schemas;

use muster_tests::{Api, Fixture, JsonFields as _, WebhookSink, eventually};
use serde_json::{Value, json};

/// An integration of a kind that sends to the receiver. Returns its path.
async fn integration(fixture: &Fixture, kind: &str, more: Value) -> String {
    let mut body = json!({"kind": kind, "name": kind, "offline_after_ms": 0});
    for (field, value) in more.as_object().expect("an object") {
        body[field] = value.clone();
    }
    let created = fixture.api.post("/api/integrations", body).await.expect(201);
    format!("/api/integrations/{}", created.id())
}

/// The newest delivery of an integration in a state, once there is one.
async fn delivery_in(api: &Api, path: &str, state: &str) -> Value {
    eventually(&format!("a delivery is {state}"), async || {
        let page = api.get(&format!("{path}/deliveries?state={state}")).await.expect(200);
        page.list("items").first().cloned()
    })
    .await
}

/// Waits until an integration has delivered an event of this type.
async fn delivered(api: &Api, path: &str, event: &str) {
    eventually(&format!("{event} is delivered"), async || {
        let page =
            api.get(&format!("{path}/deliveries?state=delivered&limit=500")).await.expect(200);
        page.list("items").iter().any(|delivery| delivery["event"] == event).then_some(())
    })
    .await;
}

/// The deliveries of an integration, newest first.
async fn deliveries(api: &Api, path: &str) -> Vec<Value> {
    api.get(&format!("{path}/deliveries")).await.expect(200).list("items").clone()
}

/// The URL of a receiver without its path.
fn base(receiver: &WebhookSink) -> String {
    format!("http://{}", receiver.address())
}
