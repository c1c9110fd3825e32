//! Text that is searched on the server, and when the parts of an output were received.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases};
use serde_json::{Value, json};

use super::{finished, is_compacted, range};

on_both_databases!(
    lines_are_found_in_parts_before_and_after_compaction,
    parts_of_an_output_keep_their_times_when_it_is_compacted,
);

/// More than one request searches.
const LONG: &str = "seq 1 1300000; printf '\\033[31mNeedle\\033[0m in stderr\\n' >&2; seq 1 9; printf 'the last needle'";

/// All hits of a search, and how many requests it took.
async fn search(fixture: &Fixture, id: &str, query: &str) -> (Vec<Value>, usize) {
    let (mut hits, mut requests, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let path = format!("/api/executions/{id}/output/search?{query}{cursor}");
        let page = fixture.api.get(&path).await.expect(200);
        hits.extend(page.list("items").iter().cloned());
        requests += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (hits, requests),
        }
    }
}

async fn lines_are_found_in_parts_before_and_after_compaction(fixture: Fixture) {
    let (_agent, agent) =
        fixture.agent(AgentOptions::with_scripts([Script::new("long", LONG)])).await;
    let id = fixture.api.execute(&agent, "long", json!({})).await;
    finished(&fixture, &id).await;
    for is_late in [false, true] {
        if is_late {
            is_compacted(&fixture).await;
        }
        let (hits, requests) = search(&fixture, &id, "q=NEEDLE").await;
        let found = |hit: &Value| (hit.text("stream").to_owned(), hit.text("text").to_owned());
        let expected = [("stderr", "Needle in stderr"), ("stdout", "the last needle")];
        let mut found: Vec<_> = hits.iter().map(found).collect();
        found.sort();
        assert_eq!(found, expected.map(|(stream, text)| (stream.to_owned(), text.to_owned())));
        assert!(requests > 1, "{requests} requests searched all of it");
        let (only, _) = search(&fixture, &id, "q=needle&stream=stderr").await;
        assert_eq!(only.len(), 1);
        // Each offset leads to its line.
        let (hits, requests) = search(&fixture, &id, "q=129999&limit=1").await;
        assert_eq!(hits.len(), 12, "{hits:?}");
        assert!(requests >= hits.len(), "{requests} requests of one hit each");
        for hit in &hits {
            let from = hit["offset_bytes"].as_u64().expect("an offset") as usize;
            let text = hit.text("text");
            assert_eq!(range(&fixture, &id, from, from + text.len()).await, text.as_bytes());
        }
        // A response has no more hits than the limit, however many lines have the text.
        let path = format!("/api/executions/{id}/output/search?q=1&limit=500");
        let page = fixture.api.get(&path).await.expect(200);
        assert_eq!(page.list("items").len(), 500);
        assert!(page["next_cursor"].is_string(), "{page}");
        // What is after the place where it stops is not searched.
        let end = hits[5]["offset_bytes"].as_u64().expect("an offset");
        let (before, _) = search(&fixture, &id, &format!("q=129999&to_bytes={end}")).await;
        assert_eq!(before, hits[..5]);
    }
    for query in ["q=", "q=x&cursor=1", "q=x&cursor=1.x", "q=x&limit=0", "q=x&limit=501"] {
        let path = format!("/api/executions/{id}/output/search?{query}");
        let status = fixture.api.get(&path).await.status;
        assert!((400..500).contains(&status), "{query}: {status}");
    }
}

async fn parts_of_an_output_keep_their_times_when_it_is_compacted(fixture: Fixture) {
    let scripts = [
        Script::new("short", "echo first; sleep 1.5; echo second"),
        Script::new("long", "echo first; sleep 1.5; seq 1 20000"),
    ];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    for script in ["short", "long"] {
        let id = fixture.api.execute(&agent, script, json!({})).await;
        let ended = finished(&fixture, &id).await;
        match script {
            "short" => {
                eventually("its chunks are one row", async || {
                    (fixture.server.query("SELECT count(*) FROM output_chunks") == ["1"])
                        .then_some(())
                })
                .await;
            }
            _ => is_compacted(&fixture).await,
        }
        let path = format!("/api/executions/{id}/output/times");
        let times = fixture.api.get(&path).await.expect(200);
        let items = times.list("items");
        let (first, second) = (&items[0], &items[1]);
        assert_eq!((&first["offset_bytes"], &second["offset_bytes"]), (&json!(0), &json!(6)));
        let at = |item: &Value| item.text("received_at").to_owned();
        // The same form as all instants, so their order is that of their texts.
        let in_order = [ended.text("created_at").to_owned(), at(first), at(second)];
        assert!(in_order.is_sorted(), "{in_order:?}");
        assert_ne!(at(first), at(second));
        assert_eq!(times["next_from_bytes"], Value::Null);
        let later = fixture.api.get(&format!("{path}?from_bytes=8")).await.expect(200);
        assert_eq!(later.list("items")[0], *second, "the time of the line that has the byte");
    }
}
