//! A request that is repeated is the same request.

use muster_server::domain::page::PageRequest;
use muster_server::store::queries::CommandFilter;
use muster_server::store::writer::{Idempotency, SubmitCommand, Submitted};

use crate::fixture::Fixture;
use crate::on_both_databases;

on_both_databases!(a_repeated_key_makes_one_command, repeats_in_one_batch_make_one_command);

fn keyed(fixture: &Fixture, agent: muster_server::domain::ids::AgentId, hash: u8) -> SubmitCommand {
    let idempotency = Some(Idempotency { key: "again".into(), request_hash: [hash; 32] });
    SubmitCommand { idempotency, ..fixture.submission(agent) }
}

async fn a_repeated_key_makes_one_command(fixture: Fixture) {
    let agent = fixture.agent("host").await.agent_id;
    let writer = fixture.store.writer();
    let first = keyed(&fixture, agent, 1);
    let command_id = first.row.id;
    assert_eq!(writer.commit(first).await.expect("submit"), Submitted::New { delivered: false });
    let again = writer.commit(keyed(&fixture, agent, 1)).await.expect("submit");
    assert_eq!(again, Submitted::Repeated { command_id });
    let other = writer.commit(keyed(&fixture, agent, 2)).await.expect("submit");
    assert_eq!(other, Submitted::KeyReused);
    assert_eq!(commands(&fixture).await, 1);
}

async fn repeats_in_one_batch_make_one_command(fixture: Fixture) {
    let agent = fixture.agent("host").await.agent_id;
    let mut waits = Vec::new();
    for _ in 0..50 {
        let submission = keyed(&fixture, agent, 1);
        waits.push(fixture.store.writer().enqueue(submission).await.expect("queue"));
    }
    let mut new = 0;
    for wait in waits {
        match wait.await.expect("submit") {
            Submitted::New { .. } => new += 1,
            Submitted::Repeated { .. } => {}
            other => panic!("the same request was {other:?}"),
        }
    }
    assert_eq!((new, commands(&fixture).await), (1, 1));
}

async fn commands(fixture: &Fixture) -> usize {
    let page = PageRequest { after: None, limit: 100 };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    tenant.commands(&CommandFilter::default(), page).await.expect("list").items.len()
}
