//! The audit log: its hash chain, exports, filters and the stream of new entries.

use muster_tests::{
    Api, Cli, Fixture, JsonFields as _, LiveStream, ServerOptions, eventually, fake_time,
    on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    every_way_to_change_the_log_is_found_and_named,
    a_log_that_was_cut_off_is_found_by_a_head_that_was_kept,
    a_long_log_is_checked_in_parts_and_a_stream_and_an_export_continue,
    old_entries_are_removed_and_what_stays_is_still_proven,
    log_of_the_server_is_for_the_operator_alone_and_bounded_by_retention,
);

async fn logged_in(fixture: &Fixture) -> Cli {
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    cli
}

/// Changes something, which adds a link with one entry.
async fn change(fixture: &Fixture, name: &str) {
    fixture.api.post("/api/agents/keys", json!({"name": name})).await.expect(201);
}

/// The entries, oldest first.
async fn entries(fixture: &Fixture) -> Vec<Value> {
    let page = fixture.api.get("/api/audit?limit=500").await.expect(200);
    page["items"].as_array().expect("items").iter().rev().cloned().collect()
}

/// An id as a literal of SQL.
fn literal(fixture: &Fixture, id: &str) -> String {
    match fixture.server.is_postgres() {
        true => format!("'{id}'"),
        false => format!("X'{}'", id.replace('-', "")),
    }
}

/// What the server and the command line find, which is the same.
async fn findings(fixture: &Fixture, cli: &Cli) -> Vec<(String, u64, Option<String>)> {
    let verified = fixture.api.get("/api/audit/verify").await.expect(200);
    assert_eq!(verified["next_after"], Value::Null, "{verified}");
    let printed = cli.run(&["audit", "verify", "--json"]).await;
    let answer: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    let list = |value: &Value| -> Vec<(String, u64, Option<String>)> {
        let items = value["findings"].as_array().expect("findings").iter();
        items
            .map(|item| {
                let id = item["entry_id"].as_str().map(str::to_owned);
                (item.text("kind").to_owned(), item["link"].as_u64().expect("a link"), id)
            })
            .collect()
    };
    let (of_server, of_client) = (list(&verified), list(&answer));
    assert_eq!(of_server, of_client, "{verified} {answer}");
    assert_eq!(verified["is_intact"], of_server.is_empty());
    assert_eq!(printed.code, Some(i32::from(!of_server.is_empty())), "{}", printed.stderr);
    of_server
}

async fn every_way_to_change_the_log_is_found_and_named(fixture: Fixture) {
    let cli = logged_in(&fixture).await;
    for name in ["one", "two", "three", "four", "five"] {
        change(&fixture, name).await;
    }
    assert_eq!(findings(&fixture, &cli).await, []);
    let all = entries(&fixture).await;
    let of = |position: usize| {
        let entry = &all[all.len() - 1 - position];
        (entry.text("id").to_owned(), entry["link"].as_u64().expect("a link"))
    };
    let (five, two, three, four) = (of(0), of(3), of(2), of(1));
    let lit = |id: &str| literal(&fixture, id);
    let found =
        |kind: &str, link: u64, id: Option<&str>| (kind.to_owned(), link, id.map(str::to_owned));

    // Changed.
    let row = |id: &str| format!("WHERE id = {}", lit(id));
    let query = |statement: &str| fixture.server.query(statement);
    query(&format!("UPDATE audit_entries SET action = 'agent_key.delete' {}", row(&two.0)));
    assert_eq!(findings(&fixture, &cli).await, [found("entry_changed", two.1, Some(&two.0))]);
    query(&format!("UPDATE audit_entries SET action = 'agent_key.create' {}", row(&two.0)));
    assert_eq!(findings(&fixture, &cli).await, []);

    // Swapped: each row has the content of the other.
    let details =
        |id: &str| query(&format!("SELECT detail FROM audit_entries {}", row(id))).concat();
    let (of_two, of_three) = (details(&two.0), details(&three.0));
    let write = |id: &str, detail: &str| {
        query(&format!("UPDATE audit_entries SET detail = '{detail}' {}", row(id)));
    };
    write(&two.0, &of_three);
    write(&three.0, &of_two);
    assert_eq!(
        findings(&fixture, &cli).await,
        [
            found("entry_changed", two.1, Some(&two.0)),
            found("entry_changed", three.1, Some(&three.0))
        ]
    );
    write(&two.0, &of_two);
    write(&three.0, &of_three);

    // Reordered: an entry is stored under the link of another commit.
    query(&format!("UPDATE audit_entries SET link = {} {}", four.1, row(&three.0)));
    assert_eq!(findings(&fixture, &cli).await, [found("entry_moved", three.1, Some(&three.0))]);
    query(&format!("UPDATE audit_entries SET link = {} {}", three.1, row(&three.0)));
    assert_eq!(findings(&fixture, &cli).await, []);

    // Inserted: among the entries of a commit, and behind the last link.
    let forged = "01999999-9999-7999-8999-999999999999";
    for link in [four.1, five.1 + 7] {
        query(&format!(
            "INSERT INTO audit_entries (id, tenant_id, link, at, actor_kind, actor_id, session_id, action, subject_kind, \
             subject_id, detail, source) SELECT {}, tenant_id, {link}, at, actor_kind, actor_id, session_id, action, \
             subject_kind, subject_id, detail, source FROM audit_entries {}",
            lit(forged),
            row(&four.0)
        ));
        assert_eq!(findings(&fixture, &cli).await, [found("entry_inserted", link, Some(forged))]);
        query(&format!("DELETE FROM audit_entries {}", row(forged)));
    }

    // Removed: an entry, then its link too.
    query(&format!("DELETE FROM audit_entries {}", row(&four.0)));
    assert_eq!(findings(&fixture, &cli).await, [found("entry_removed", four.1, Some(&four.0))]);
    query(&format!("DELETE FROM audit_links WHERE number = {}", four.1));
    assert_eq!(findings(&fixture, &cli).await, [found("link_removed", four.1, None)]);

    // Work goes on, and new entries are part of the chain.
    change(&fixture, "six").await;
    assert_eq!(findings(&fixture, &cli).await, [found("link_removed", four.1, None)]);
}

async fn a_log_that_was_cut_off_is_found_by_a_head_that_was_kept(mut fixture: Fixture) {
    let cli = logged_in(&fixture).await;
    change(&fixture, "one").await;
    let old = fixture.api.get("/api/audit/head").await.expect(200);
    change(&fixture, "two").await;
    let (kept, exported) = (cli.home().join("head.json"), cli.home().join("audit.ndjson"));
    let (kept, exported) = (kept.to_str().expect("a path"), exported.to_str().expect("a path"));
    cli.run(&["audit", "verify", "--save-head", kept]).await.expect(0);
    cli.run(&["audit", "export", "--output", exported]).await.expect(0);

    // Without the server: a person who changes a file could sign it again, so a key or a head is needed.
    fixture.server.stop();
    cli.run(&["audit", "verify", "--from", exported]).await.expect(2);
    let said = cli.run(&["audit", "verify", "--from", exported, "--head", kept]).await.expect(0);
    assert!(said.contains("the kept head of link"), "{said}");
    let key = old.text("public_key");
    cli.run(&["audit", "verify", "--from", exported, "--public-key", key]).await.expect(0);
    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    cli.run(&["audit", "verify", "--from", exported, "--public-key", other]).await.expect(1);
    let text = std::fs::read_to_string(exported).expect("the file");
    let changed = cli.home().join("changed.ndjson");
    let changed_path = changed.to_str().expect("a path");
    let lines: Vec<&str> = text.lines().collect();
    let verify = async |text: String| {
        std::fs::write(&changed, text).expect("write");
        cli.run(&["audit", "verify", "--from", changed_path, "--head", kept]).await
    };
    assert_eq!(verify(text.clone()).await.code, Some(0));
    for position in 1..lines.len() {
        let without = lines.iter().enumerate().filter(|(at, _)| *at != position);
        let without: String = without.map(|(_, line)| format!("{line}\n")).collect();
        assert_eq!(verify(without).await.code, Some(1), "without line {position}");
        let mut swapped = lines.clone();
        swapped.swap(position, position - 1);
        assert_ne!(verify(swapped.join("\n")).await.code, Some(0), "line {position} swapped");
    }
    assert_eq!(verify(text.replace("agent_key.create", "agent_key.delete")).await.code, Some(1));

    // A person with the database cuts the log off, and puts an older head in place, which is signed.
    let number = old["number"].as_u64().expect("a number");
    fixture.server.query(&format!("DELETE FROM audit_entries WHERE link > {number}"));
    fixture.server.query(&format!("DELETE FROM audit_links WHERE number > {number}"));
    let hash = match fixture.server.is_postgres() {
        true => format!("'\\x{}'", old.text("hash")),
        false => format!("X'{}'", old.text("hash")),
    };
    fixture.server.query(&format!(
        "UPDATE audit_heads SET number = {number}, hash = {hash}, signature = '{}'",
        old.text("signature")
    ));
    fixture.server.resume();
    fixture.server.ready().await;
    cli.run(&["audit", "verify"]).await.expect(0);
    let refused = cli.run(&["audit", "verify", "--head", kept]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("later links were removed"), "{}", refused.stderr);
    // Also after the log has grown beyond the kept head.
    change(&fixture, "three").await;
    change(&fixture, "four").await;
    let refused = cli.run(&["audit", "verify", "--head", kept]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("the log was rewritten"), "{}", refused.stderr);

    // A person removes the whole log while the server is stopped. No later entry hides that.
    fixture.server.stop();
    for table in ["audit_entries", "audit_links", "audit_heads"] {
        fixture.server.query(&format!("DELETE FROM {table}"));
    }
    fixture.server.resume();
    fixture.server.ready().await;
    cli.run(&["audit", "verify"]).await.expect(1);
    change(&fixture, "five").await;
    let found = findings(&fixture, &cli).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0.as_str(), found[0].1), ("break_recorded", 1));
}

async fn a_long_log_is_checked_in_parts_and_a_stream_and_an_export_continue(fixture: Fixture) {
    let cli = logged_in(&fixture).await;
    let live = "/api/audit/live?action=agent_key.create";
    let mut stream = LiveStream::open(&fixture.api, live, "").await.expect("a stream");
    stream.expect("ready").await;
    // A part has 200 links, and each change is one.
    for n in 0..230 {
        change(&fixture, &format!("key {n}")).await;
    }
    let first = stream.expect("entry").await;
    assert_eq!(first.data["action"], "agent_key.create");
    drop(stream);
    // The stream continues behind an entry, and misses none.
    let mut again = LiveStream::open(&fixture.api, live, &first.id).await.expect("a stream");
    for _ in 1..230 {
        again.expect("entry").await;
    }
    let part = fixture.api.get("/api/audit/verify").await.expect(200);
    let next = part["next_after"].as_u64().expect("another part");
    assert!(part["is_intact"] == true && next >= 200, "{part}");
    let last = fixture.api.get(&format!("/api/audit/verify?after={next}")).await.expect(200);
    assert!(last["is_intact"] == true && last["next_after"].is_null(), "{last}");
    cli.run(&["audit", "verify"]).await.expect(0);
    // An export that was cut off continues with the link that it was in.
    let exported =
        async |path: String| String::from_utf8(fixture.api.get(&path).await.bytes).expect("text");
    let whole = exported("/api/audit/export".to_owned()).await;
    let link = whole.lines().filter(|line| line.contains("\"type\":\"link\"")).nth(100);
    let link: Value = serde_json::from_str(link.expect("a link")).expect("JSON");
    let number = link["number"].as_u64().expect("a number");
    let entry = whole.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["type"] == "entry" && line["link"] == number).then_some(line)
    });
    let after = format!("{number}.{}", entry.expect("an entry").id());
    let rest = exported(format!("/api/audit/export?after={after}")).await;
    let header: Value = serde_json::from_str(rest.lines().next().expect("lines")).expect("JSON");
    assert_eq!(header["after"], number - 1, "{header}");
    let tail: Vec<_> = rest.lines().skip(1).collect();
    assert!(whole.ends_with(&format!("{}\n", tail.join("\n"))), "the same lines again");
}

async fn old_entries_are_removed_and_what_stays_is_still_proven(mut fixture: Fixture) {
    let cli = logged_in(&fixture).await;
    for name in ["one", "two"] {
        change(&fixture, name).await;
    }
    let head = cli.home().join("head.json");
    let kept = head.to_str().expect("a path").to_owned();
    cli.run(&["audit", "verify", "--save-head", &kept]).await.expect(0);
    change(&fixture, "after the head").await;
    // Two months later. Time runs faster, so that the next sweep comes soon.
    fixture.server.stop();
    let later = fake_time("+60d x60");
    let options = ServerOptions::default().with("MUSTER_AUDIT_DAYS", 30);
    let options = later.iter().fold(options, |options, (name, value)| options.with(name, value));
    fixture.server.resume_with(options);
    fixture.server.ready().await;
    change(&fixture, "three").await;
    eventually("only the last key's entry stays", async || {
        let page = fixture.api.get("/api/audit?action=agent_key.create").await.expect(200);
        (page.list("items").len() == 1).then_some(())
    })
    .await;
    let refused = fixture.api.get("/api/audit?action=agent_keys.create").await;
    let refused = refused.expect_problem(400, "invalid_query");
    assert!(refused.to_string().contains("did you mean `agent_key.create`?"), "{refused}");
    let page = fixture.api.get("/api/audit?action=audit.remove").await.expect(200);
    let removed = &page["items"][0];
    let through = removed["detail"]["through_link"].as_u64().expect("a link");
    let left = entries(&fixture).await;
    assert!(left.iter().all(|entry| entry["link"].as_u64() > Some(through)), "{left:?}");

    assert_eq!(findings(&fixture, &cli).await, []);
    // Nothing says any more that the kept head was part of it.
    let compared = cli.run(&["audit", "verify", "--head", &kept]).await.expect(0);
    assert!(compared.contains("not checked: the kept head"), "{compared}");
    // A person with the database removes more than the server did.
    let more = format!("WHERE {{}} = {}", through + 1);
    fixture.server.query(&format!("DELETE FROM audit_entries {}", more.replace("{}", "link")));
    fixture.server.query(&format!("DELETE FROM audit_links {}", more.replace("{}", "number")));
    let found = findings(&fixture, &cli).await;
    assert_eq!(found, [("link_removed".to_owned(), through + 1, None)]);
    fixture.server.query(&format!("UPDATE audit_anchors SET number = {}", through + 1));
    let found = findings(&fixture, &cli).await;
    assert!(found.iter().any(|(kind, ..)| kind == "signature_invalid"), "{found:?}");
}

async fn log_of_the_server_is_for_the_operator_alone_and_bounded_by_retention(
    mut fixture: Fixture,
) {
    let cli = logged_in(&fixture).await;
    let owner = fixture.owner().await;
    let unknown = json!({"email": "nobody@example.com", "password": "correct horse battery"});
    let refused = async |api: &Api| {
        let answer = api.with_key("").post("/api/auth/login", unknown.clone()).await;
        answer.expect_problem(401, "wrong_sign_in");
    };
    let empty = fixture.api.get("/api/audit?log=server").await.expect(200);
    assert_eq!(empty["items"], json!([]));
    fixture.api.get("/api/audit/head?log=server").await.expect_problem(404, "not_found");
    fixture.api.get("/api/audit/verify?log=server").await.expect(200);
    let live = "/api/audit/live?log=server";
    let mut stream = LiveStream::open(&fixture.api, live, "").await.expect("a stream");
    stream.expect("ready").await;
    refused(&fixture.api).await;
    let entry = stream.expect("entry").await;
    assert_eq!(entry.data["action"], "session.refuse", "{}", entry.data);
    drop(stream);
    let log = fixture.api.get("/api/audit?log=server").await.expect(200);
    assert_eq!(log.list("items").len(), 1, "{log}");
    assert!(log["items"][0]["source"].is_string(), "{log}");
    assert!(!log.to_string().contains("nobody@"), "{log}");
    let of_tenant = fixture.api.get("/api/audit?action=session.refuse").await.expect(200);
    assert_eq!(of_tenant["items"], json!([]));
    let printed = cli.run(&["audit", "--log", "server"]).await.expect(0);
    assert!(printed.contains("session.refuse"), "{printed}");
    for args in [["audit", "verify", "--log", "server"], ["audit", "export", "--log", "server"]] {
        cli.run(&args).await.expect(0);
    }

    // An owner is not the operator, and an operator's right is no owner's.
    let key = json!({"name": "owner", "role": "owner"});
    let key = fixture.api.post("/api/keys", key).await.expect(201);
    for api in [&owner.api, &fixture.api.with_key(key.text("key"))] {
        for path in ["", "/head", "/verify", "/export", "/live"] {
            let answer = api.get(&format!("/api/audit{path}?log=server")).await;
            answer.expect_problem(403, "missing_scope");
        }
    }
    fixture.api.get("/api/audit?log=servers").await.expect_problem(400, "invalid_query");

    // Two months later, retention applies to it too.
    fixture.server.stop();
    let options = ServerOptions::default().with("MUSTER_AUDIT_DAYS", 30);
    let later = fake_time("+60d x60");
    let options = later.iter().fold(options, |options, (name, value)| options.with(name, value));
    fixture.server.resume_with(options);
    fixture.server.ready().await;
    refused(&fixture.api).await;
    refused(&fixture.api).await;
    eventually("the old sign-in is removed", async || {
        let page = fixture.api.get("/api/audit?log=server&action=audit.remove").await.expect(200);
        (!page.list("items").is_empty()).then_some(())
    })
    .await;
    let page = fixture.api.get("/api/audit?log=server&action=session.refuse").await.expect(200);
    assert_eq!(page.list("items").len(), 2, "{page}");
    let verified = fixture.api.get("/api/audit/verify?log=server").await.expect(200);
    assert_eq!(verified["is_intact"], true, "{verified}");
}
