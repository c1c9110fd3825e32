//! Output of what has ended: when it is looked after, and what a viewer is told of it.

use muster_tests::{AgentOptions, LiveStream, Script, ServerOptions, World, eventually};
use serde_json::json;

#[tokio::test]
async fn output_is_looked_for_when_a_command_has_ended_and_not_between() {
    let options = ServerOptions::default().with("MUSTER_LOG", "info,muster_server::workers=debug");
    let world = World::with(options).await;
    let scripts = [Script::new("short", "seq 1 9"), Script::new("long", "seq 1 9; sleep 9")];
    let (_agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let looks = || world.server.log().matches("looking for output to compact").count();
    let reaches = async |count| {
        eventually("it is looked for", async || (looks() >= count).then_some(())).await;
    };
    let short = world.api.execute(&id, "short", json!({})).await;
    world.api.finished(&short).await;
    // At the start, and for what has just ended.
    reaches(2).await;
    let long = world.api.execute(&id, "long", json!({})).await;
    world.api.finished(&long).await;
    assert!(looks() <= 3, "it was looked for {} times while nothing ended", looks() - 2);
    reaches(3).await;
}

#[tokio::test]
async fn a_live_view_of_output_that_was_cut_says_so_at_its_end() {
    let options = ServerOptions::default().with("MUSTER_MAX_OUTPUT_BYTES", 10);
    let world = World::with(options).await;
    let scripts = [Script::new("long", "printf 12345678901"), Script::new("short", "printf 1")];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    for (script, output_bytes, is_cut) in [("long", 10, true), ("short", 1, false)] {
        let id = world.api.execute(&agent, script, json!({})).await;
        let live = format!("/api/executions/{id}/output/live");
        let mut stream = LiveStream::open(&world.api, &live, "").await.expect("a live stream");
        let mut last = None;
        while let Some(event) = stream.next().await {
            last = Some(event);
        }
        let result = last.expect("a result").data;
        assert_eq!(result["is_output_incomplete"], is_cut, "{result}");
        assert_eq!(result["output_bytes"], output_bytes, "{result}");
    }
}
