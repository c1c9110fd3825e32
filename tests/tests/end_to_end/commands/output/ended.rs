//! Output of ended executions: when it is compacted, and what a live viewer gets.

use muster_tests::{AgentOptions, Fixture, LiveStream, Script, ServerOptions, eventually};
use serde_json::json;

#[tokio::test]
async fn output_maintenance_runs_only_after_a_command_has_ended() {
    let options = ServerOptions::default().with("MUSTER_LOG", "info,muster_server::workers=debug");
    let fixture = Fixture::with(options).await;
    let scripts = [Script::new("short", "seq 1 9"), Script::new("long", "seq 1 9; sleep 9")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let looks = || fixture.server.log().matches("looking for output to compact").count();
    let reaches = async |count| {
        eventually("it is looked for", async || (looks() >= count).then_some(())).await;
    };
    let short = fixture.api.execute(&id, "short", json!({})).await;
    fixture.api.finished(&short).await;
    // At the start, and for executions that have just ended.
    reaches(2).await;
    let long = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.finished(&long).await;
    assert!(looks() <= 3, "it was looked for {} times while nothing ended", looks() - 2);
    reaches(3).await;
}

#[tokio::test]
async fn live_stream_of_truncated_output_reports_the_truncation() {
    let options = ServerOptions::default().with("MUSTER_MAX_OUTPUT_BYTES", 10);
    let fixture = Fixture::with(options).await;
    let scripts = [Script::new("long", "printf 12345678901"), Script::new("short", "printf 1")];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    for (script, output_bytes, is_cut) in [("long", 10, true), ("short", 1, false)] {
        let id = fixture.api.execute(&agent, script, json!({})).await;
        let live = format!("/api/executions/{id}/output/live");
        let mut stream = LiveStream::open(&fixture.api, &live, "").await.expect("a live stream");
        let mut last = None;
        while let Some(event) = stream.next().await {
            last = Some(event);
        }
        let result = last.expect("a result").data;
        assert_eq!(result["is_output_incomplete"], is_cut, "{result}");
        assert_eq!(result["output_bytes"], output_bytes, "{result}");
    }
}
