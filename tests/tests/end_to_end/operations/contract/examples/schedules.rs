//! Examples: schedules, calendars and hooks.

use muster_tests::JsonFields as _;
use reqwest::Method;
use serde_json::json;

use super::{Recorder, integrations};

pub async fn schedules(run: &mut Recorder<'_>) {
    let rule = json!({"cron": "0 9 * * MON-FRI", "time_zone": "Europe/Berlin"});
    let body = json!({"name": "reports", "rule": rule, "overlap": "queue",
        "job": {"script": "deploy", "target": {"expression": "all"}}});
    let schedule = run.post("/api/schedules", body).await.id().to_owned();
    let path = format!("/api/schedules/{{id={schedule}}}");
    run.get("/api/schedules").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"missed": "all", "max_catch_up": 3}))).await;
    run.post(&format!("{path}/run"), json!({})).await;
    run.get(&format!("{path}/fires")).await;
    run.get(&format!("{path}/trigger-states")).await;
    run.get(&format!("{path}/preview?count=2")).await;
    run.post("/api/schedules/preview", json!({"rule": rule, "count": 2})).await;
    for action in ["disable", "enable"] {
        run.post(&format!("{path}/{action}"), json!({})).await;
    }
    integrations::alerts(run).await;
    calendars(run, &schedule).await;
    run.call(Method::DELETE, &path, None).await;
}

pub async fn calendars(run: &mut Recorder<'_>, schedule: &str) {
    let weekly = json!({"days": ["sat", "sun"], "from": "22:00", "until": "04:00"});
    let body = json!({"name": "nights", "time_zone": "Europe/Berlin", "schedule_ids": [schedule],
        "entries": [{"kind": "window", "weekly": weekly},
            {"kind": "exclusion", "dates": ["2026-12-25"], "note": "Christmas"}]});
    let id = run.post("/api/calendars", body).await.id().to_owned();
    let path = format!("/api/calendars/{{id={id}}}");
    run.get("/api/calendars").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"name": "weekends"}))).await;
    let schedule = format!("/api/schedules/{{id={schedule}}}/snooze");
    run.post(&schedule, json!({"until": "2099-01-01T00:00:00Z"})).await;
    let span = json!({"from": "2026-10-01T00:00:00Z", "for_ms": 30 * 86_400_000_u64});
    run.post("/api/schedules/simulate", span).await;
    run.call(Method::DELETE, &path, None).await;
}

pub async fn hooks(run: &mut Recorder<'_>) {
    let body = json!({"name": "deploys", "authentication": "bearer",
        "parameters": {"VERSION": "/release/tag"}, "conditions": {"/action": "published"},
        "job": {"script": "deploy", "target": {"expression": "all"}}});
    let hook = run.post("/api/hooks", body).await;
    let (id, secret) = (hook.id().to_owned(), hook.text("secret").to_owned());
    let path = format!("/api/hooks/{{id={id}}}");
    run.get("/api/hooks").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"name": "releases"}))).await;
    let sent = json!({"action": "published", "release": {"tag": "1.4.0"}});
    run.post(&format!("{path}/test"), json!({"body": sent, "dry_run": true})).await;
    let delivered = format!("/hooks/{{id={id}}}");
    run.call_with(&secret, Method::POST, &delivered, Some(sent)).await;
    run.get(&format!("{path}/deliveries")).await;
    run.post(&format!("{path}/rotate"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
}
