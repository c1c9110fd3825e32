//! The library of scripts, with real servers and agents.

mod api;
mod assigned_scripts;
mod assignment_rights;
mod assignment_rollouts;
mod assignments;
mod command_line;
mod dependencies;
mod file_parameters;
mod files;
mod one_box;
mod packages;
mod publishers;
mod rehearsals;
mod running;
mod services;
pub mod signed_packages;
mod starter;
mod triggers;

use muster_tests::{Agent, AgentOptions, Fixture, JsonFields as _, write_policy};
use serde_json::{Value, json};

/// An agent whose host has this policy.
async fn agent_with_policy(fixture: &Fixture, policy: Value) -> (Agent, String) {
    let options = AgentOptions::named("agent");
    let state = fixture.test_dir.folder(&options.name);
    write_policy(&state, &policy.to_string());
    fixture.agent(options).await
}

/// Saves a shell script and returns its id.
async fn create(fixture: &Fixture, name: &str, body: &str) -> String {
    let script = json!({"name": name, "body": body, "interpreter": "sh"});
    fixture.api.post("/api/scripts", script).await.expect(201).id().to_owned()
}

/// Saves a version that becomes the current one.
async fn save(fixture: &Fixture, id: &str, body: &str) -> Value {
    let version = json!({"body": body, "interpreter": "sh"});
    fixture.api.post(&format!("/api/scripts/{id}/versions"), version).await.expect(201)
}

async fn output(fixture: &Fixture, command: &str) -> String {
    String::from_utf8(fixture.api.output(command).await).expect("text")
}
