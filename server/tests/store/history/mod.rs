//! The history of commands, page by page.

mod past;
mod plans;

use muster_protocol::frame::Outcome;
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::page::PageRequest;
use muster_server::store::queries::{CommandFilter, Effort, Retention};
use proptest::test_runner::TestRunner;
use sea_orm::Iterable as _;

use self::past::{Past, any, file, pages};
use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    pages_hold_what_the_filters_let_through_however_little_each_looks_at,
    a_rare_command_is_found_though_each_page_looks_at_few,
    pages_stay_whole_while_commands_come_end_and_are_indexed,
    a_strangers_history_is_not_there_and_leaves_no_trace,
    indexed_history_is_dropped_when_it_is_old,
);

const FEW: Effort = Effort { steps: 7, open: 3 };

async fn pages_hold_what_the_filters_let_through_however_little_each_looks_at(fixture: Fixture) {
    let mut runner = TestRunner::default();
    let past = Past::of(&fixture, &mut runner, 400).await;
    for _ in 0..150 {
        let filter = past.filter(&mut runner);
        let limit = 1 + any(&mut runner, 40) as u64;
        let effort = match any(&mut runner, 3) {
            0 => Effort::default(),
            1 => Effort { steps: 40, open: 10 },
            _ => FEW,
        };
        let found = pages(&fixture, &filter, limit, effort).await;
        assert_eq!(found, past.wanted(&filter), "{filter:?}, {limit} a page, {effort:?}");
    }
}

async fn a_rare_command_is_found_though_each_page_looks_at_few(fixture: Fixture) {
    let mut runner = TestRunner::default();
    let mut past = Past::of(&fixture, &mut runner, 300).await;
    let mut rare = past.rows[40].clone();
    rare.id = past::id_at(rare.created_at, 1);
    rare.tenant_id = fixture.tenant_id;
    rare.requested_by = muster_server::domain::ids::PrincipalId::new();
    past::insert(&fixture, Vec::new(), vec![rare.clone()]).await;
    past.rows.push(rare.clone());
    let filter = CommandFilter { requested_by: Some(rare.requested_by), ..Default::default() };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let first = PageRequest { after: None, limit: 10 };
    let page = tenant.commands_within(&filter, first, FEW).await.expect("read");
    assert!(page.items.is_empty() && page.next_cursor.is_some(), "short, and going on");
    assert_eq!(pages(&fixture, &filter, 10, FEW).await, [rare.id]);
}

async fn pages_stay_whole_while_commands_come_end_and_are_indexed(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let mut known = Vec::new();
    for _ in 0..60 {
        known.push(fixture.delivered(&session).await);
    }
    known.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
    let everything = CommandFilter { is_execution: true, ..Default::default() };
    let of_agent = CommandFilter { agent_id: Some(session.agent_id), ..everything.clone() };
    let moving = async {
        for id in &known {
            fixture.delivered(&session).await;
            file(&fixture, 2).await;
            fixture.settle(&session, *id, Outcome::Failed).await;
        }
    };
    let reading = async {
        let mut rounds = Vec::new();
        for filter in [&everything, &of_agent, &everything, &of_agent] {
            rounds.push(pages(&fixture, filter, 3, FEW).await);
        }
        rounds
    };
    let ((), rounds) = tokio::join!(moving, reading);
    for found in rounds {
        let mut once = found.clone();
        once.dedup();
        assert_eq!(found, once, "a command is listed twice");
        let of_known: Vec<_> = found.into_iter().filter(|id| known.contains(id)).collect();
        assert_eq!(of_known, known);
    }
    let failed = CommandFilter { states: vec![CommandState::Failed], ..Default::default() };
    assert_eq!(pages(&fixture, &failed, 7, FEW).await, known);
}

async fn a_strangers_history_is_not_there_and_leaves_no_trace(fixture: Fixture) {
    let mut runner = TestRunner::default();
    let past = Past::of(&fixture, &mut runner, 200).await;
    let stranger = fixture.store.tenant(muster_server::domain::ids::TenantId::new());
    let page = PageRequest { after: Some(past.rows[150].id.0), limit: 10 };
    let by_agent = CommandFilter { agent_id: Some(past.agents[0]), ..Default::default() };
    let by_job = CommandFilter { job_id: Some(past.jobs[0]), ..Default::default() };
    for filter in [CommandFilter::default(), by_agent, by_job, past.filter(&mut runner)] {
        let found = stranger.commands_within(&filter, page, FEW).await.expect("read");
        assert!(found.items.is_empty() && found.next_cursor.is_none(), "{filter:?}: {found:?}");
    }
}

async fn indexed_history_is_dropped_when_it_is_old(fixture: Fixture) {
    let mut runner = TestRunner::default();
    let past = Past::of(&fixture, &mut runner, 300).await;
    let later = NOW.plus_ms(past::STEP_MS * 1_000_000);
    let retention = Retention {
        telemetry_before: later,
        idempotency_before: later,
        history_before: later,
        deliveries_before: later,
    };
    while fixture.store.system().drop_old(retention).await.expect("sweep") {}
    let everything = CommandFilter::default();
    let open: Vec<_> = CommandState::iter().filter(|state| !state.is_terminal()).collect();
    let left = CommandFilter { states: open, ..Default::default() };
    let found = pages(&fixture, &everything, 50, Effort::default()).await;
    assert_eq!(found, past.wanted(&left), "what is open stays, and nothing else");
}
