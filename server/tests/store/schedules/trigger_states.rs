//! Calls of scripts with a trigger, on both databases: each is counted once, and changes the data once.

use muster_protocol::frame::Outcome;
use muster_protocol::library::{CallPart, CallReport};
use muster_server::domain::ids::{CommandId, ScheduleId};
use muster_server::domain::page::PageRequest;
use muster_server::domain::schedules::trigger_call::{CallOutcome, PinnedCall, TriggerStateRecord};
use muster_server::store::FireStart;
use muster_server::store::queries::RecordedFires;
use muster_server::store::writer::{OpenedSession, Settle};
use serde_json::json;

use crate::fixture::{Fixture, NOW, audit, settle};
use crate::on_both_databases;

on_both_databases!(
    a_call_is_counted_with_its_fire_and_changes_the_data_once,
    a_call_with_an_older_version_of_the_data_changes_nothing,
    only_a_call_that_succeeded_changes_the_data,
    what_a_schedule_keeps_is_deleted_with_it,
);

const PAGE: PageRequest = PageRequest { after: None, limit: 10 };

impl Fixture {
    /// Stores a call of the schedule on this agent, delivered.
    async fn call(&self, schedule_id: ScheduleId, session: &OpenedSession) -> CommandId {
        let row = self.store.tenant(self.tenant_id).schedule(schedule_id).await.expect("read");
        let row = row.expect("the schedule");
        let due_at = row.handled_until.plus_ms(60_000);
        let fire = self.fire(&row, due_at);
        let recorded = RecordedFires {
            schedule_id,
            was: (row.changed_at, row.handled_until),
            handled_until: due_at,
            next_due_at: Some(due_at.plus_ms(60_000)),
            fires: vec![fire.clone()],
        };
        assert_eq!(self.store.system().record_fires(vec![recorded]).await.expect("record"), 1);
        let (_, mut job) = self.job_submission(&[session]);
        let call = PinnedCall { schedule_id, is_forced: false };
        job.row.data = json!({"script": "library:a", "call": call}).to_string();
        for execution in &mut job.executions {
            execution.row.data.clone_from(&job.row.data);
        }
        job.fire = Some(FireStart {
            fire_id: fire.id,
            schedule_id,
            is_manual: false,
            allows_overlap: true,
            is_forced: false,
        });
        let id = job.executions[0].row.id;
        self.store.writer().commit(job).await.expect("submit");
        id
    }

    async fn trigger_states(&self, id: ScheduleId) -> Vec<TriggerStateRecord> {
        self.store.tenant(self.tenant_id).trigger_states(id, PAGE).await.expect("read")
    }

    async fn data(&self, id: ScheduleId) -> (String, i64, Option<CallOutcome>) {
        let state = self.trigger_states(id).await.pop().expect("a state");
        (state.data, state.data_version, state.last_outcome)
    }
}

fn report(session: &OpenedSession, id: CommandId, outcome: Outcome, version: u64) -> Settle {
    let data = format!("{{\"command\":\"{id}\"}}");
    let call = CallReport {
        data_version: version,
        last_part: Some(CallPart::Main),
        data: Some(data),
        data_problem: None,
    };
    let mut settle = settle(session, id, outcome);
    settle.report.call = Some(call);
    settle
}

fn of(id: CommandId) -> String {
    format!("{{\"command\":\"{id}\"}}")
}

async fn a_call_is_counted_with_its_fire_and_changes_the_data_once(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let schedule = fixture.schedule("one").await.id;
    let first = fixture.call(schedule, &session).await;
    assert_eq!(fixture.data(schedule).await, ("{}".into(), 0, None));
    let writer = fixture.store.writer();
    for _ in 0..2 {
        // Repeated, as after an acknowledgement that was lost.
        let settled = writer.commit(report(&session, first, Outcome::Succeeded, 0)).await;
        settled.expect("settle");
        let succeeded = Some(CallOutcome::MainSucceeded);
        assert_eq!(fixture.data(schedule).await, (of(first), 1, succeeded));
    }
    let second = fixture.call(schedule, &session).await;
    let state = fixture.trigger_states(schedule).await.pop().expect("a state");
    assert_eq!((state.call_count, state.last_command_id), (2, second));
    assert_eq!((state.data, state.data_version), (of(first), 1));
    let other = fixture.agent("other").await;
    fixture.call(schedule, &other).await;
    let counts: Vec<_> =
        fixture.trigger_states(schedule).await.iter().map(|state| state.call_count).collect();
    assert_eq!(counts, [2, 1], "each agent has its own");
}

async fn a_call_with_an_older_version_of_the_data_changes_nothing(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let schedule = fixture.schedule("one").await.id;
    let first = fixture.call(schedule, &session).await;
    let second = fixture.call(schedule, &session).await;
    let writer = fixture.store.writer();
    let (one, other) = tokio::join!(
        writer.commit(report(&session, first, Outcome::Succeeded, 0)),
        writer.commit(report(&session, second, Outcome::Succeeded, 0)),
    );
    one.expect("settle");
    other.expect("settle");
    let (data, version, outcome) = fixture.data(schedule).await;
    assert!(data == of(first) || data == of(second));
    assert_eq!((version, outcome), (1, Some(CallOutcome::DataConflict)));
}

async fn only_a_call_that_succeeded_changes_the_data(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let schedule = fixture.schedule("one").await.id;
    for (outcome, expected) in [
        (Outcome::Failed, CallOutcome::MainFailed),
        (Outcome::TimedOut, CallOutcome::MainTimedOut),
        (Outcome::Cancelled, CallOutcome::Cancelled),
    ] {
        let id = fixture.call(schedule, &session).await;
        let settled = fixture.store.writer().commit(report(&session, id, outcome, 0)).await;
        settled.expect("settle");
        assert_eq!(fixture.data(schedule).await, ("{}".into(), 0, Some(expected)));
    }
    // An agent may send anything.
    for data in ["{", "\"\0\""] {
        let id = fixture.call(schedule, &session).await;
        let mut wrong = report(&session, id, Outcome::Succeeded, 0);
        wrong.report.call.as_mut().expect("a call").data = Some(data.into());
        fixture.store.writer().commit(wrong).await.expect("settle");
        let refused = Some(CallOutcome::DataRefused);
        assert_eq!(fixture.data(schedule).await, ("{}".into(), 0, refused));
    }
}

async fn what_a_schedule_keeps_is_deleted_with_it(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let schedule = fixture.schedule("one").await.id;
    let id = fixture.call(schedule, &session).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.delete_schedule(schedule, audit(fixture.tenant_id)).await.expect("delete"));
    let late = report(&session, id, Outcome::Succeeded, 0);
    fixture.store.writer().commit(late).await.expect("settle");
    assert_eq!(fixture.trigger_states(schedule).await, []);
    let state = fixture.store.system().trigger_state(schedule, session.agent_id).await;
    assert_eq!(state.expect("read"), None, "at {NOW:?}");
}
