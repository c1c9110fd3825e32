//! Due times, fires and their jobs, on both databases: even if a step is repeated, each due time has one
//! fire and each fire one job.

use muster_server::domain::commands::job_state::JobState;
use muster_server::domain::ids::{FireId, JobId, PrincipalId, ScheduleId, TenantId};
use muster_server::domain::integrations::event_type::EventType;
use muster_server::domain::page::PageRequest;
use muster_server::domain::schedules::fire::{FireReason, FireState, ScheduleState};
use muster_server::domain::schedules::policy::{MissedPolicy, OverlapPolicy};
use muster_server::domain::time::Timestamp;
use muster_server::store::entities::column::StringList;
use muster_server::store::entities::schedules::{fire, schedule};
use muster_server::store::queries::{FireDecision, JobFilter, RecordedFires, ScheduleChange};
use muster_server::store::writer::{FinishJob, SubmitJob, SubmittedJob};
use muster_server::store::{FireStart, StoreError};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    two_attempts_at_once_record_each_due_time_once,
    a_due_time_has_one_fire_however_often_it_is_computed,
    two_attempts_at_once_give_a_fire_one_job,
    a_fire_that_may_not_overlap_waits_for_every_job_of_its_schedule,
    a_changed_schedule_refuses_fires_of_its_previous_rule,
    disabling_a_schedule_skips_its_open_fires,
    a_stopped_schedule_is_not_due_and_its_fires_are_skipped,
    the_last_due_time_ends_a_schedule,
    a_deleted_schedule_starts_nothing,
    next_work_is_the_earliest_due_time_or_fire,
    a_tenant_sees_no_schedules_of_another,
    a_schedule_passes_to_another_owner_once,
    a_run_that_takes_much_longer_than_usual_is_an_event,
);

const PAGE: PageRequest = PageRequest { after: None, limit: 100 };

fn due(minutes: u64) -> Timestamp {
    NOW.plus_ms(minutes * 60_000)
}

impl Fixture {
    pub async fn schedule(&self, name: &str) -> schedule::Model {
        let row = schedule::Model {
            id: ScheduleId::new(),
            tenant_id: self.tenant_id,
            name: name.into(),
            rule: r#"{"every_ms":60000}"#.into(),
            starts_at: None,
            ends_at: None,
            job: "{}".into(),
            state: ScheduleState::Active,
            stop_reason: None,
            missed: MissedPolicy::Once,
            max_catch_up: 1,
            late_limit_ms: 1,
            overlap: OverlapPolicy::Skip,
            jitter_ms: 0,
            owner_id: PrincipalId(Uuid::nil()),
            created_by: PrincipalId(Uuid::nil()),
            created_at: NOW,
            changed_at: NOW,
            handled_until: NOW,
            next_due_at: Some(due(1)),
            snoozed_until: None,
            webhook_url: None,
            sealed_parameters: None,
            secret_names: StringList::default(),
        };
        let tenant = self.store.tenant(self.tenant_id);
        let created = tenant.create_schedule(row.clone(), 10, audit(self.tenant_id)).await;
        created.expect("created").expect("within the plan");
        row
    }

    pub fn fire(&self, row: &schedule::Model, due_at: Timestamp) -> fire::Model {
        fire::Model {
            id: FireId::new(),
            tenant_id: self.tenant_id,
            schedule_id: row.id,
            due_at,
            planned_at: due_at,
            is_manual: false,
            is_missed: false,
            state: FireState::Pending,
            reason: None,
            detail: None,
            job_id: None,
            fired_at: None,
            recorded_at: due_at,
            omitted_before: 0,
            look_at: Some(due_at),
        }
    }

    fn recorded(&self, row: &schedule::Model, due_at: Timestamp) -> RecordedFires {
        RecordedFires {
            schedule_id: row.id,
            was: (row.changed_at, row.handled_until),
            handled_until: due_at,
            next_due_at: Some(due_at.plus_ms(60_000)),
            fires: vec![self.fire(row, due_at)],
        }
    }

    /// A schedule with a fire that is due.
    async fn fired(&self, name: &str) -> (schedule::Model, fire::Model) {
        let row = self.schedule(name).await;
        let recorded = self.recorded(&row, due(1));
        let fire = recorded.fires[0].clone();
        assert_eq!(self.store.system().record_fires(vec![recorded]).await.expect("record"), 1);
        (self.stored(row.id).await, fire)
    }

    async fn stored(&self, id: ScheduleId) -> schedule::Model {
        let tenant = self.store.tenant(self.tenant_id);
        tenant.schedule(id).await.expect("read").expect("the schedule")
    }

    async fn fires(&self, id: ScheduleId) -> Vec<fire::Model> {
        self.store.tenant(self.tenant_id).fires(id, PAGE).await.expect("read")
    }

    fn job_of(&self, fire: &fire::Model, allows_overlap: bool) -> SubmitJob {
        let start = FireStart {
            fire_id: fire.id,
            schedule_id: fire.schedule_id,
            is_manual: false,
            allows_overlap,
            is_forced: false,
        };
        SubmitJob {
            row: self.job_row(JobId::new()),
            rollout: None,
            executions: vec![],
            idempotency: None,
            fire: Some(start),
            audit: audit(self.tenant_id),
            approval: None,
        }
    }

    async fn jobs(&self) -> usize {
        self.store
            .tenant(self.tenant_id)
            .jobs(&JobFilter::default(), PAGE)
            .await
            .expect("read")
            .len()
    }
}

async fn two_attempts_at_once_record_each_due_time_once(fixture: Fixture) {
    let row = fixture.schedule("one").await;
    let system = fixture.store.system();
    let attempt = || system.record_fires(vec![fixture.recorded(&row, due(1))]);
    let (one, other) = tokio::join!(attempt(), attempt());
    assert_eq!(one.expect("record") + other.expect("record"), 1);
    assert_eq!(fixture.fires(row.id).await.len(), 1);
    assert_eq!(fixture.stored(row.id).await.next_due_at, Some(due(2)));
}

async fn a_due_time_has_one_fire_however_often_it_is_computed(fixture: Fixture) {
    let (row, first) = fixture.fired("one").await;
    // As after a clock was set back and the rule was edited.
    let again = fixture.recorded(&row, due(1));
    assert_eq!(fixture.store.system().record_fires(vec![again]).await.expect("record"), 1);
    let fires = fixture.fires(row.id).await;
    assert_eq!(fires.iter().map(|fire| fire.id).collect::<Vec<_>>(), [first.id]);
}

async fn two_attempts_at_once_give_a_fire_one_job(fixture: Fixture) {
    let (row, fire) = fixture.fired("one").await;
    let writer = fixture.store.writer();
    let attempt = || writer.commit(fixture.job_of(&fire, true));
    let (one, other) = tokio::join!(attempt(), attempt());
    let mut results = [one.expect("commit"), other.expect("commit")];
    results.sort_by_key(|result| *result == SubmittedJob::FireNotOpen);
    assert!(matches!(results[0], SubmittedJob::New { .. }));
    assert_eq!(results[1], SubmittedJob::FireNotOpen);
    let late = writer.commit(fixture.job_of(&fire, true)).await.expect("commit");
    assert_eq!(late, SubmittedJob::FireNotOpen);
    assert_eq!(fixture.jobs().await, 1);
    let fires = fixture.fires(row.id).await;
    assert_eq!((fires[0].state, fires[0].look_at), (FireState::Fired, None));
    assert!(fires[0].job_id.is_some() && fires[0].fired_at.is_some());
}

/// On PostgreSQL, a second server does not start while the first one holds the database's lock.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_database_give_each_due_time_one_job() {
    let fixture = Fixture::sqlite().await;
    let other = fixture.other_store().await;
    let row = fixture.schedule("one").await;
    for minute in 1..=20 {
        let stored = fixture.stored(row.id).await;
        let of_each =
            [&fixture.store, &other].map(|store| (store, fixture.recorded(&stored, due(minute))));
        let attempts = of_each.map(async |(store, recorded)| {
            let changed = store.system().record_fires(vec![recorded]).await.expect("record");
            // Both servers know the fire only from the database.
            let fires = store.tenant(fixture.tenant_id).fires(row.id, PAGE).await.expect("read");
            let fire = fires.iter().find(|fire| fire.due_at == due(minute)).expect("recorded");
            let job = store.writer().commit(fixture.job_of(fire, true)).await.expect("commit");
            (changed, matches!(job, SubmittedJob::New { .. }))
        });
        let [one, two] = attempts;
        let (one, two) = tokio::join!(one, two);
        assert_eq!(one.0 + two.0, 1, "each due time is recorded once");
        assert!(one.1 != two.1, "one of the servers created the job: {one:?} {two:?}");
    }
    assert_eq!((fixture.fires(row.id).await.len(), fixture.jobs().await), (20, 20));
}

async fn a_fire_that_may_not_overlap_waits_for_every_job_of_its_schedule(fixture: Fixture) {
    let (row, first) = fixture.fired("one").await;
    let writer = fixture.store.writer();
    let job = fixture.job_of(&first, false);
    let job_id = job.row.id;
    assert!(matches!(writer.commit(job).await.expect("commit"), SubmittedJob::New { .. }));
    let recorded = fixture.recorded(&row, due(2));
    let second = recorded.fires[0].clone();
    fixture.store.system().record_fires(vec![recorded]).await.expect("record");
    let overlapping = writer.commit(fixture.job_of(&second, false)).await.expect("commit");
    assert_eq!(overlapping, SubmittedJob::FireOverlaps);
    let system = fixture.store.system();
    let look_at = due(3);
    assert!(system.decide_fire(second.id, FireDecision::Wait { look_at }).await.expect("decide"));
    assert!(system.has_waiting_fires().await.expect("read"));
    assert!(system.open_fires(due(2), false, 9).await.expect("read").is_empty());
    assert_eq!(system.open_fires(due(2), true, 9).await.expect("read").len(), 1);
    let finish = FinishJob {
        tenant_id: fixture.tenant_id,
        job_id,
        state: JobState::Succeeded,
        finished_at: due(2),
    };
    assert!(writer.commit(finish).await.expect("finish"));
    let after = writer.commit(fixture.job_of(&second, false)).await.expect("commit");
    assert!(matches!(after, SubmittedJob::New { .. }));
    assert!(!system.has_waiting_fires().await.expect("read"));
}

async fn a_changed_schedule_refuses_fires_of_its_previous_rule(fixture: Fixture) {
    let row = fixture.schedule("one").await;
    let stale = fixture.recorded(&row, due(1));
    let was = (row.changed_at, row.handled_until);
    let changed = schedule::Model { changed_at: due(0).plus_ms(5), ..row.clone() };
    let change = ScheduleChange { row: changed, was, closes_fires: false };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let stored = tenant.change_schedule(change.clone(), audit(fixture.tenant_id)).await;
    stored.expect("change").expect("as it was read");
    assert_eq!(fixture.store.system().record_fires(vec![stale]).await.expect("try"), 0);
    assert!(fixture.fires(row.id).await.is_empty());
    let again = tenant.change_schedule(change, audit(fixture.tenant_id)).await.expect("try");
    assert_eq!(again, None, "it was changed meanwhile");
    let other = fixture.schedule("other").await;
    let renamed = schedule::Model { name: "one".into(), ..other.clone() };
    let was = (other.changed_at, other.handled_until);
    let change = ScheduleChange { row: renamed, was, closes_fires: false };
    let taken = tenant.change_schedule(change, audit(fixture.tenant_id)).await;
    assert!(matches!(taken, Err(StoreError::Refused(_))));
}

async fn disabling_a_schedule_skips_its_open_fires(fixture: Fixture) {
    let (row, fire) = fixture.fired("one").await;
    let was = (row.changed_at, row.handled_until);
    let disabled = schedule::Model {
        state: ScheduleState::Disabled,
        next_due_at: None,
        changed_at: due(1),
        ..row.clone()
    };
    let change = ScheduleChange { row: disabled, was, closes_fires: true };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    tenant.change_schedule(change, audit(fixture.tenant_id)).await.expect("change").expect("it");
    let fires = fixture.fires(row.id).await;
    assert_eq!(fires[0].state, FireState::Skipped);
    assert_eq!(fires[0].reason, Some(FireReason::NotActive));
    let late = fixture.store.writer().commit(fixture.job_of(&fire, true)).await.expect("commit");
    assert_eq!(late, SubmittedJob::FireNotOpen);
    assert_eq!(fixture.jobs().await, 0);
}

async fn a_stopped_schedule_is_not_due_and_its_fires_are_skipped(fixture: Fixture) {
    let (row, _) = fixture.fired("one").await;
    let system = fixture.store.system();
    let stop = || system.stop_schedule(row.clone(), "gone".into(), audit(fixture.tenant_id));
    assert!(stop().await.expect("stop"));
    assert!(!stop().await.expect("try"), "it was changed since it was read");
    let stopped = fixture.stored(row.id).await;
    assert_eq!((stopped.state, stopped.next_due_at), (ScheduleState::Stopped, None));
    assert_eq!(stopped.stop_reason.as_deref(), Some("gone"));
    assert_eq!(fixture.fires(row.id).await[0].reason, Some(FireReason::OwnerInvalid));
    assert_eq!(system.next_schedule_work().await.expect("read"), None);
}

async fn the_last_due_time_ends_a_schedule(fixture: Fixture) {
    let row = fixture.schedule("one").await;
    let last = RecordedFires { next_due_at: None, ..fixture.recorded(&row, due(1)) };
    fixture.store.system().record_fires(vec![last]).await.expect("record");
    assert_eq!(fixture.stored(row.id).await.state, ScheduleState::Ended);
    let open = fixture.store.system().open_fires(due(1), false, 9).await.expect("read");
    assert_eq!(open.len(), 1, "its job still starts");
}

async fn a_deleted_schedule_starts_nothing(fixture: Fixture) {
    let (row, fire) = fixture.fired("one").await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let delete = || tenant.delete_schedule(row.id, audit(fixture.tenant_id));
    assert!(delete().await.expect("delete"));
    assert!(!delete().await.expect("try"));
    let late = fixture.store.writer().commit(fixture.job_of(&fire, true)).await.expect("commit");
    assert_eq!(late, SubmittedJob::FireNotOpen);
    assert_eq!(fixture.jobs().await, 0);
}

async fn next_work_is_the_earliest_due_time_or_fire(fixture: Fixture) {
    let system = fixture.store.system();
    assert_eq!(system.next_schedule_work().await.expect("read"), None);
    let row = fixture.schedule("one").await;
    assert_eq!(system.next_schedule_work().await.expect("read"), Some(due(1)));
    assert!(system.due_schedules(due(1).minus_ms(1), 9).await.expect("read").is_empty());
    let is_due = system.due_schedules(due(1), 9).await.expect("read");
    assert_eq!(is_due.iter().map(|row| row.id).collect::<Vec<_>>(), [row.id]);
    system.record_fires(vec![fixture.recorded(&row, due(1))]).await.expect("record");
    assert_eq!(system.next_schedule_work().await.expect("read"), Some(due(1)), "the fire");
}

async fn a_tenant_sees_no_schedules_of_another(fixture: Fixture) {
    let (row, fire) = fixture.fired("one").await;
    let stranger = fixture.store.tenant(TenantId::new());
    assert!(stranger.schedules(PAGE).await.expect("read").is_empty());
    assert_eq!(stranger.schedule(row.id).await.expect("read"), None);
    assert!(stranger.fires(row.id, PAGE).await.expect("read").is_empty());
    let entry = audit(fixture.tenant_id);
    assert!(!stranger.delete_schedule(row.id, entry.clone()).await.expect("try"));
    let foreign = schedule::Model { tenant_id: TenantId::new(), ..row.clone() };
    let was = (row.changed_at, row.handled_until);
    let change = ScheduleChange { row: foreign, was, closes_fires: true };
    assert_eq!(stranger.change_schedule(change, entry.clone()).await.expect("try"), None);
    let manual = fire::Model { tenant_id: TenantId::new(), ..fixture.fire(&row, due(9)) };
    assert_eq!(stranger.record_manual_fire(manual, entry).await.expect("try"), None);
    assert_eq!(fixture.fires(row.id).await[0].id, fire.id);
}

async fn a_schedule_passes_to_another_owner_once(fixture: Fixture) {
    let (row, fire) = fixture.fired("nightly").await;
    let owner = PrincipalId(Uuid::from_u128(7));
    let system = fixture.store.system();
    let pass = async || {
        let entry = audit(fixture.tenant_id);
        system.pass_schedule_on(row.clone(), owner, entry).await.expect("pass on")
    };
    assert!(pass().await);
    assert!(!pass().await, "it was changed meanwhile");
    let passed = fixture.stored(row.id).await;
    assert_eq!((passed.owner_id, passed.state), (owner, ScheduleState::Active));
    let open = system.open_fires(fire.due_at, false, 10).await.expect("read");
    assert_eq!(open.len(), 1, "its open fire stays");
}

async fn a_run_that_takes_much_longer_than_usual_is_an_event(fixture: Fixture) {
    let sent = fixture.integration(&[EventType::ScheduleUnusualDuration]).await;
    let row = fixture.schedule("nightly").await;
    for (minutes, took_ms) in
        [60_000, 61_000, 59_000, 60_000, 62_000, 61_000, 600_000, 60_000].into_iter().enumerate()
    {
        let fire = fixture.fire(&row, due(minutes as u64));
        let known = fixture.stored(row.id).await;
        let recorded = RecordedFires {
            fires: vec![fire.clone()],
            ..fixture.recorded(&known, due(minutes as u64 + 100))
        };
        assert_eq!(fixture.store.system().record_fires(vec![recorded]).await.expect("record"), 1);
        let submission = fixture.job_of(&fire, true);
        let (tenant_id, job_id) = (fixture.tenant_id, submission.row.id);
        let finished_at = submission.row.created_at.plus_ms(took_ms);
        fixture.store.writer().commit(submission).await.expect("submit");
        let end = FinishJob { tenant_id, job_id, state: JobState::Succeeded, finished_at };
        fixture.store.writer().commit(end).await.expect("finish");
    }
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let messages = tenant.integration_messages(sent, None, PAGE).await.expect("read");
    assert_eq!(messages.len(), 1, "{messages:?}");
    let data = messages[0].data.as_deref().expect("data");
    assert!(data.contains("\"duration_ms\":600000"), "{data}");
    assert!(data.contains("\"usual_duration_ms\":61000"), "{data}");
}
