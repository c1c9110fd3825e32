//! A past to look back at: commands of two tenants, of many agents, in every state.

use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::commands::job_state::JobState;
use muster_server::domain::commands::trigger::Trigger;
use muster_server::domain::ids::{AgentId, CommandId, JobId, PrincipalId, TenantId};
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::entities::column::StringList;
use muster_server::store::entities::commands::{command, job};
use muster_server::store::queries::{CommandFilter, Effort};
use muster_server::store::writer::IndexHistory;
use proptest::prelude::Strategy as _;
use proptest::test_runner::TestRunner;
use sea_orm::{EntityTrait as _, IntoActiveModel as _, Iterable as _};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW};

/// Between two commands.
pub const STEP_MS: u64 = 100;
const SCRIPTS: [&str; 4] = ["hello", "deploy", "backup", "rare"];

pub struct Past {
    pub tenants: [TenantId; 2],
    pub agents: Vec<AgentId>,
    pub keys: Vec<PrincipalId>,
    /// The first tenant's.
    pub jobs: Vec<JobId>,
    /// Oldest first.
    pub rows: Vec<command::Model>,
}

/// A number below `end`, another one at each call.
pub fn any(runner: &mut TestRunner, end: usize) -> usize {
    use proptest::strategy::ValueTree as _;
    (0..end).new_tree(runner).expect("a number").current()
}

pub fn one_of<T: Clone>(runner: &mut TestRunner, all: &[T]) -> T {
    all[any(runner, all.len())].clone()
}

impl Past {
    /// So many commands, of which the last twentieth is not indexed yet.
    pub async fn of(fixture: &Fixture, runner: &mut TestRunner, commands: usize) -> Self {
        let mut past = Self {
            tenants: [fixture.tenant_id, TenantId::new()],
            agents: (0..20).map(|_| AgentId::new()).collect(),
            keys: (0..3).map(|_| PrincipalId::new()).collect(),
            jobs: (0..3).map(|_| JobId::new()).collect(),
            rows: Vec::new(),
        };
        past.rows = (0..commands).map(|index| past.row(runner, index)).collect();
        let jobs: Vec<_> = past.jobs.iter().map(|id| past.job(*id)).collect();
        let (indexed, new) = past.rows.split_at(commands - commands / 20);
        insert(fixture, jobs, indexed.to_vec()).await;
        while file(fixture, 5_000).await > 0 {}
        insert(fixture, Vec::new(), new.to_vec()).await;
        past
    }

    fn row(&self, runner: &mut TestRunner, index: usize) -> command::Model {
        let created_at = NOW.plus_ms(STEP_MS * index as u64);
        let state = match any(runner, 20) {
            0..14 => CommandState::Succeeded,
            14..19 => one_of(runner, &CommandState::iter().skip(4).collect::<Vec<_>>()),
            _ => one_of(runner, &CommandState::iter().take(3).collect::<Vec<_>>()),
        };
        let is_execution = any(runner, 10) > 0;
        // An id is made a moment after the instant that its row shows.
        let lag_ms = any(runner, 50) as u64;
        let tenant_id = self.tenants[usize::from(any(runner, 3) > 0)];
        let is_of_job = tenant_id == self.tenants[0] && is_execution && any(runner, 4) == 0;
        command::Model {
            max_log_bytes: None,
            id: id_at(created_at.plus_ms(lag_ms), any(runner, usize::MAX)),
            tenant_id,
            agent_id: one_of(runner, &self.agents),
            command: if is_execution { "execute" } else { "restart" }.into(),
            data: "{}".into(),
            sealed_parameters: None,
            state,
            end_reason: None,
            requested_by: one_of(runner, &self.keys),
            requested_from: None,
            created_at,
            expires_at: created_at.plus_ms(60_000),
            timeout_ms: 1_000,
            lost_after_ms: 10_000,
            delivered_at: None,
            started_at: None,
            finished_at: state.is_terminal().then_some(created_at),
            cancel_requested_at: None,
            job_id: is_of_job.then(|| one_of(runner, &self.jobs)),
            wave: None,
            is_held: false,
            script: is_execution.then(|| script(runner)),
            trigger: if any(runner, 10) == 0 { Trigger::Retry } else { Trigger::Api },
            capsule: None,
            attempt: 1,
            retry_of: None,
            retried_as: None,
            retried_job_id: None,
            not_before: None,
            lock_name: None,
            has_secrets: false,
            request_id: None,
            step_progress: None,
        }
    }

    fn job(&self, id: JobId) -> job::Model {
        job::Model {
            id,
            tenant_id: self.tenants[0],
            script: "hello".into(),
            data: "{}".into(),
            secret_names: StringList::default(),
            target: "{}".into(),
            agent_count: 1,
            requested_by: self.keys[0],
            requested_from: None,
            created_at: NOW,
            state: JobState::Succeeded,
            finished_at: Some(NOW),
            stop: None,
            webhook_url: None,
            retry_of: None,
            retries: None,
            lock_name: None,
        }
    }

    /// Any combination of filters, most of which let something through.
    pub fn filter(&self, runner: &mut TestRunner) -> CommandFilter {
        let instant = |runner: &mut TestRunner| {
            NOW.plus_ms(STEP_MS / 2 * any(runner, self.rows.len() * 2) as u64)
        };
        let mut filter = CommandFilter { is_execution: any(runner, 2) == 0, ..Default::default() };
        if any(runner, 3) == 0 {
            filter.agent_id = Some(one_of(runner, &self.agents));
        }
        if any(runner, 4) == 0 {
            filter.agents =
                Some((0..=any(runner, 4)).map(|_| one_of(runner, &self.agents)).collect());
        }
        if any(runner, 5) == 0 {
            filter.job_id = Some(one_of(runner, &self.jobs));
        }
        if any(runner, 3) == 0 {
            filter.script = Some(script(runner));
        }
        if any(runner, 2) == 0 {
            let states: Vec<_> = CommandState::iter().collect();
            filter.states = (0..=any(runner, 3)).map(|_| one_of(runner, &states)).collect();
        }
        if any(runner, 4) == 0 {
            filter.created_after = Some(instant(runner));
        }
        if any(runner, 4) == 0 {
            filter.created_before = Some(instant(runner));
        }
        if any(runner, 5) == 0 {
            filter.trigger = Some(one_of(runner, &[Trigger::Api, Trigger::Retry]));
        }
        if any(runner, 4) == 0 {
            filter.requested_by = Some(one_of(runner, &self.keys));
        }
        filter
    }

    /// What a filter lets through of the first tenant's, newest first: read without an index.
    pub fn wanted(&self, filter: &CommandFilter) -> Vec<CommandId> {
        let mut ids: Vec<_> =
            self.rows.iter().filter(|row| self.is_wanted(row, filter)).map(|row| row.id).collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        ids
    }

    fn is_wanted(&self, row: &command::Model, filter: &CommandFilter) -> bool {
        row.tenant_id == self.tenants[0]
            && (!filter.is_execution || row.command == "execute")
            && filter.agent_id.is_none_or(|id| row.agent_id == id)
            && filter.agents.as_ref().is_none_or(|ids| ids.contains(&row.agent_id))
            && filter.job_id.is_none_or(|id| row.job_id == Some(id))
            && filter.script.as_ref().is_none_or(|script| row.script.as_ref() == Some(script))
            && (filter.states.is_empty() || filter.states.contains(&row.state))
            && filter.created_after.is_none_or(|at| row.created_at >= at)
            && filter.created_before.is_none_or(|at| row.created_at < at)
            && filter.trigger.is_none_or(|trigger| row.trigger == trigger)
            && filter.requested_by.is_none_or(|id| row.requested_by == id)
    }
}

fn script(runner: &mut TestRunner) -> String {
    one_of(runner, &SCRIPTS).to_owned()
}

/// An id of this instant.
pub fn id_at(at: Timestamp, noise: usize) -> CommandId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&noise.to_be_bytes());
    let millis = u64::try_from(at.0).expect("after 1970");
    CommandId(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
}

pub async fn insert(fixture: &Fixture, jobs: Vec<job::Model>, rows: Vec<command::Model>) {
    let done = fixture.store.writer().change(move |transaction| {
        let (jobs, rows) = (jobs.clone(), rows.clone());
        Box::pin(async move {
            for job in jobs {
                job::Entity::insert(job.into_active_model()).exec(transaction).await?;
            }
            for rows in rows.chunks(500) {
                let rows = rows.iter().cloned().map(command::Model::into_active_model);
                command::Entity::insert_many(rows).exec_without_returning(transaction).await?;
            }
            Ok(())
        })
    });
    done.await.expect("insert");
}

/// Files at most so many; how many it was.
pub async fn file(fixture: &Fixture, limit: u64) -> u64 {
    fixture.store.writer().commit(IndexHistory { limit }).await.expect("file")
}

/// All pages of a filter in one. Each comes in time: no cursor is given out twice.
pub async fn pages(
    fixture: &Fixture,
    filter: &CommandFilter,
    limit: u64,
    effort: Effort,
) -> Vec<CommandId> {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let request = PageRequest { after, limit };
        let page = tenant.commands_within(filter, request, effort).await.expect("read");
        assert!(page.items.len() as u64 <= limit, "{} items", page.items.len());
        ids.extend(page.items.iter().map(|found| found.command.id));
        let Some(next) = page.next_cursor else { return ids };
        let next = Uuid::parse_str(&next).expect("an id");
        assert!(after.is_none_or(|after| next < after), "{next} follows {after:?}");
        after = Some(next);
    }
}
