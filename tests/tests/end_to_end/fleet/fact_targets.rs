//! What happens where targets name facts of hosts: work and assignments follow the facts.

use muster_tests::{
    FakeAgent, Fixture, JsonFields as _, eventually, file, on_both_databases, tar_zst,
};
use serde_json::{Value, json};

on_both_databases!(
    assignment_follows_the_facts_of_its_hosts,
    job_and_control_of_a_service_reach_only_hosts_with_the_fact,
);

/// A scripted host, with its id.
struct Host {
    agent: FakeAgent,
    id: String,
}

impl Host {
    async fn new(fixture: &Fixture, name: &str) -> Self {
        let (_, key) = fixture.api.agent_key(json!({"name": name})).await;
        let data = json!({"hostname": name, "policy": "library",
            "capabilities": ["ping", "execute", "packages", "assignments", "facts"]});
        let address = fixture.server.address();
        let (agent, registered) = FakeAgent::registered_full(&address, &key, data).await;
        Self { agent, id: registered.text("agent_id").to_owned() }
    }

    /// Reports this role, and waits until the server knows it.
    async fn report_role(&mut self, fixture: &Fixture, role: &str) {
        self.agent.send(json!({"type": "facts", "facts": {"role": role}})).await;
        let path = format!("/api/agents/{}/facts", self.id);
        eventually("the role is known", async || {
            let known = fixture.api.get(&path).await.expect(200);
            (known["facts"]["role"] == role).then_some(())
        })
        .await;
    }

    /// Waits until it gets a list with so many assignments.
    async fn is_assigned(&mut self, count: usize) {
        while self.agent.expect("assignments").await.list("items").len() != count {}
    }
}

/// Uploads a package that is kept running, and assigns it.
async fn assign(fixture: &Fixture, expression: &str) -> String {
    let description = "name = \"kept\"\nversion = \"1\"\nkind = \"service\"\nexecutor = \"sh\"\n\
        entry = \"run.sh\"\n[service]\n";
    let archive = tar_zst(&[file("muster.toml", description), file("run.sh", "sleep 1000\n")]);
    fixture.api.upload("/api/packages", archive).await.expect(201);
    let body = json!({"name": "kept", "script": "package:kept",
        "target": {"expression": expression}});
    fixture.api.post("/api/assignments", body).await.expect(201).id().to_owned()
}

async fn assignment_follows_the_facts_of_its_hosts(fixture: Fixture) {
    let mut one = Host::new(&fixture, "one").await;
    one.report_role(&fixture, "db").await;
    assign(&fixture, "fact:role=db").await;
    one.is_assigned(1).await;
    // At once: the worker looks at all agents after a minute only, which is longer than the test waits.
    one.report_role(&fixture, "web").await;
    one.is_assigned(0).await;
    one.report_role(&fixture, "db").await;
    one.is_assigned(1).await;
}

async fn job_and_control_of_a_service_reach_only_hosts_with_the_fact(fixture: Fixture) {
    let mut hosts = Vec::new();
    for (name, role) in [("one", "db"), ("two", "web"), ("three", "web")] {
        let mut host = Host::new(&fixture, name).await;
        host.report_role(&fixture, role).await;
        hosts.push(host);
    }
    let silent = Host::new(&fixture, "silent").await;
    let id = assign(&fixture, "all").await;
    let counts = async |expression: &str| {
        let target = json!({"target": {"expression": expression}});
        let path = format!("/api/services/{id}/restart");
        let controlled = fixture.api.post(&path, target.clone()).await.expect(202);
        let shown = fixture.api.post("/api/targets/preview", target["target"].clone()).await;
        (controlled["agent_count"].clone(), shown.expect(200)["matched_count"].clone())
    };
    for (expression, count) in [
        ("fact:role=web", 2),
        ("fact:role!=web", 2),
        ("fact:role=* & !fact:role=db", 2),
        ("fact:role=D?", 1),
        ("all", 4),
    ] {
        assert_eq!(counts(expression).await, (json!(count), json!(count)), "{expression}");
    }
    let job =
        json!({"script": "hello", "target": {"expression": "fact:role=db"}, "on_mismatch": "send"});
    let job = fixture.api.post("/api/jobs", job).await.expect(202);
    let executions = fixture.api.get(&format!("/api/jobs/{}/executions", job.id())).await;
    let executions = executions.expect(200);
    let agents: Vec<&Value> =
        executions.list("items").iter().map(|item| &item["agent_id"]).collect();
    assert_eq!(agents, [&json!(hosts[0].id)], "{executions}");
    assert_ne!(silent.id, hosts[0].id);
}
