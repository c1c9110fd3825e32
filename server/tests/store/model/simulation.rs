//! One case: the same steps for the store and for the model, compared after each batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use muster_server::domain::commands::command_state::EndReason;
use muster_server::domain::ids::{AgentId, AgentKeyId, CommandId};
use muster_server::store::StoreError;
use muster_server::store::queries::{Cancelled, OutputStream};
use muster_server::store::writer::{
    AgentIdentity, AppendOutput, CloseSession, Disposition, Idempotency, Listed, MarkDelivered,
    OpenSession, Progress, Reconcile, Reconciled, RecordProgress, Report, Settle, SubmitCommand,
    Submitted,
};
use uuid::Uuid;

use super::StepBatch;
use super::reference::{Answer, ExpectedReconciliation, ModelHost, Reference};
use super::step::{AGENTS, Age, COMMANDS, OffsetKind, Session, Step};
use crate::fixture::{Fixture, NOW, audit};
use crate::fleet::sessions::opened;

pub struct Simulation {
    fixture: Arc<Fixture>,
    key_id: AgentKeyId,
    agents: Vec<AgentId>,
    commands: Vec<CommandId>,
    model: Reference,
}

/// A step with everything that depends on the state before its batch.
struct Resolved {
    step: Step,
    /// The epoch that it is asked in.
    epoch: i64,
    /// Of output: its agent, and where it starts.
    agent: usize,
    offset: u64,
}

impl Simulation {
    pub async fn new(fixture: &Arc<Fixture>) -> Self {
        let key_id = AgentKeyId::new();
        fixture.make_key(fixture.tenant_id, key_id, AGENTS as i32).await;
        let host = ModelHost { epoch: 1, ledger: 1, count: 0, is_online: true };
        let model = Reference {
            rows: BTreeMap::new(),
            hosts: std::array::from_fn(|_| host.clone()),
            keys: BTreeMap::new(),
        };
        let commands = (0..COMMANDS).map(|_| CommandId::new()).collect();
        let fixture = Arc::clone(fixture);
        let mut simulation = Self { fixture, key_id, agents: Vec::new(), commands, model };
        for number in 0..AGENTS {
            let opening = simulation.fixture.open(simulation.opening(number, 1, 0)).await;
            simulation.agents.push(opened(opening).agent_id);
        }
        simulation
    }

    fn opening(&self, agent: usize, ledger: u128, count: u64) -> OpenSession {
        let machine = format!("{}-{agent}", self.key_id);
        let mut opening = self.fixture.registration(&machine);
        opening.key_id = self.key_id;
        opening.secret_hash = self.key_id.0.as_bytes().to_vec();
        if let AgentIdentity::Full { agent_id, ledger_id, acceptance_count, .. } =
            &mut opening.identity
        {
            *agent_id = self.agents.get(agent).copied();
            *ledger_id = Uuid::from_u128(ledger);
            *acceptance_count = count;
        }
        opening
    }

    /// Asks for all of a batch before the writer runs, and compares what came of it.
    pub async fn take(&mut self, batch: &StepBatch) {
        let steps = self.resolve(batch);
        let mut expected: Vec<Option<Answer>> = vec![None; steps.len()];
        let mut order: Vec<usize> = (0..steps.len()).collect();
        order.sort_by_key(|index| steps[*index].step.rank());
        let mut counted = BTreeSet::new();
        for index in order {
            expected[index] = Some(self.expect(&steps[index], &mut counted));
        }
        let asked = join_all(steps.iter().map(|step| self.ask(step))).await;
        for ((step, asked), expected) in steps.iter().zip(asked).zip(expected) {
            assert_eq!(Some(asked), expected, "{:?} in {batch:?}", step.step);
        }
        self.compare().await;
    }

    /// Leaves out what no caller of the writer asks for.
    fn resolve(&self, batch: &StepBatch) -> Vec<Resolved> {
        let mut owners: BTreeMap<usize, usize> =
            self.model.rows.iter().map(|(command, row)| (*command, row.agent)).collect();
        let mut sent: BTreeMap<usize, u64> = BTreeMap::new();
        let mut reconciled = BTreeSet::new();
        let mut steps = Vec::new();
        for step in batch {
            let mut step = step.clone();
            let (mut session, mut offset) = (None, 0);
            let mut owner = 0;
            match &mut step {
                Step::Submit { command, agent, deliver, .. } => {
                    // Ids are never given twice.
                    if owners.contains_key(command) {
                        continue;
                    }
                    owners.insert(*command, *agent);
                    session = deliver.map(|age| Session { agent: *agent, age });
                }
                Step::Deliver { session: in_session, commands } => {
                    commands.retain(|command| owners.get(command) == Some(&in_session.agent));
                    session = Some(*in_session);
                }
                Step::Output { age, command, offset_kind, length } => {
                    // What is no command of the agent's own its session does not let through, nor one
                    // whose submission has not been answered: it may come to nothing.
                    let Some(row) = self.model.rows.get(command) else { continue };
                    owner = row.agent;
                    session = Some(Session { agent: owner, age: *age });
                    let stored = row.output_bytes;
                    let end = sent.entry(*command).or_insert(stored);
                    offset = match offset_kind {
                        OffsetKind::Behind => *end,
                        OffsetKind::Beyond => *end + 1,
                        OffsetKind::Repeated => 0,
                    };
                    *end = (*end).max(offset + *length);
                }
                Step::Reconcile { session: in_session, .. } => {
                    // A session has one inventory.
                    if !reconciled.insert((in_session.agent, self.epoch(*in_session))) {
                        continue;
                    }
                    session = Some(*in_session);
                }
                Step::Accept { session: said, .. }
                | Step::Start { session: said, .. }
                | Step::Settle { session: said, .. }
                | Step::Close { session: said } => session = Some(*said),
                Step::Open { .. } | Step::Cancel { .. } | Step::Refuse { .. } => {}
            }
            let epoch = session.map_or(0, |session| self.epoch(session));
            steps.push(Resolved { step, epoch, agent: owner, offset });
        }
        steps
    }

    fn epoch(&self, session: Session) -> i64 {
        let current = self.model.hosts[session.agent].epoch;
        match session.age {
            Age::Replaced => current - 1,
            Age::Current => current,
            Age::Next => current + 1,
        }
    }

    fn expect(&mut self, resolved: &Resolved, counted: &mut BTreeSet<usize>) -> Answer {
        let Resolved { step, epoch, agent: owner, offset } = resolved;
        let model = &mut self.model;
        let is_stale = |model: &Reference, agent: usize| model.hosts[agent].epoch != *epoch;
        match step {
            Step::Submit { command, agent, deliver, key } => {
                model.submit(*command, *agent, deliver.map(|_| *epoch), *key)
            }
            Step::Open { agent, ledger, count } => model.open(*agent, *ledger, *count),
            Step::Cancel { command } => model.cancel(*command),
            Step::Refuse { commands } => model.refuse(commands),
            Step::Close { session } => {
                let host = &mut model.hosts[session.agent];
                host.is_online &= host.epoch != *epoch;
                Answer::Done
            }
            Step::Output { .. } if is_stale(model, *owner) => Answer::Stale,
            Step::Output { command, length, .. } => model.output(*command, *offset, *length),
            Step::Deliver { session, .. }
            | Step::Accept { session, .. }
            | Step::Start { session, .. }
            | Step::Settle { session, .. }
            | Step::Reconcile { session, .. }
                if is_stale(model, session.agent) =>
            {
                Answer::Stale
            }
            Step::Deliver { session, .. } if !model.hosts[session.agent].is_online => Answer::Stale,
            Step::Deliver { commands, .. } => model.deliver(commands),
            Step::Accept { session, count } => {
                let known = &mut model.hosts[session.agent].count;
                let is_first = counted.insert(session.agent);
                *known = if is_first { *count } else { (*known).max(*count) };
                Answer::Done
            }
            Step::Start { session, command } => model.start(session.agent, *command),
            Step::Settle { session, command, outcome } => {
                model.settle(session.agent, *command, *outcome)
            }
            Step::Reconcile { session, listed } => model.reconcile(session.agent, listed),
        }
    }

    fn ask(&self, resolved: &Resolved) -> BoxFuture<'_, Answer> {
        let Resolved { step, epoch, agent: owner, offset } = resolved;
        let (epoch, now) = (*epoch, NOW);
        let writer = self.fixture.store.writer();
        let agent = |session: &Session| self.agents[session.agent];
        let id = |command: &usize| self.commands[*command];
        match step.clone() {
            Step::Submit { command, agent, deliver, key } => {
                let mut submission = self.fixture.submission(self.agents[agent]);
                submission.row.id = id(&command);
                let idempotency = key.map(|(key, hash)| Idempotency {
                    key: format!("{}-{key}", self.key_id),
                    request_hash: [hash; 32],
                });
                let deliver_in_epoch = deliver.map(|_| epoch);
                let operation = SubmitCommand { deliver_in_epoch, idempotency, ..submission };
                let done = writer.commit(operation);
                async move { self.submitted(done.await.expect("submit")) }.boxed()
            }
            Step::Deliver { session, commands } => {
                let command_ids = commands.iter().map(id).collect();
                let agent_id = agent(&session);
                let done = writer.commit(MarkDelivered { agent_id, epoch, command_ids, now });
                async move { answer(done.await, |ids| Answer::Delivered(self.numbers(ids))) }
                    .boxed()
            }
            Step::Accept { session, count } => {
                let progress = Progress::Accepted { acceptance_count: count };
                let operation = RecordProgress { agent_id: agent(&session), epoch, progress, now };
                let done = writer.commit(operation);
                async move { answer(done.await, |()| Answer::Done) }.boxed()
            }
            Step::Start { session, command } => {
                let progress = Progress::Started { command_id: id(&command) };
                let operation = RecordProgress { agent_id: agent(&session), epoch, progress, now };
                let done = writer.commit(operation);
                async move { answer(done.await, |()| Answer::Done) }.boxed()
            }
            Step::Output { command, length, .. } => {
                let operation = AppendOutput {
                    agent_id: self.agents[*owner],
                    epoch,
                    command_id: id(&command),
                    offset_bytes: *offset,
                    length_bytes: length,
                    stdout_offset_bytes: *offset,
                    stdout_bytes: length,
                    records: Bytes::from_static(b"-"),
                    received_at: muster_server::domain::time::Timestamp(1),
                    max_log_bytes: None,
                };
                let done = writer.commit(operation);
                async move { answer(done.await, Answer::Output) }.boxed()
            }
            Step::Settle { session, command, outcome } => {
                let report = Report {
                    outcome,
                    data: "{}".into(),
                    error: None,
                    error_code: None,
                    attestation: None,
                    call: None,
                };
                let (agent_id, command_id) = (agent(&session), id(&command));
                let done = writer.commit(Settle {
                    agent_id,
                    epoch,
                    command_id,
                    report,
                    last_chunk_bytes: None,
                    now,
                });
                async move {
                    answer(done.await, |settled| Answer::Settled {
                        receipt: settled.receipt,
                        was_open: settled.was_open,
                    })
                }
                .boxed()
            }
            Step::Reconcile { session, listed } => {
                let listed = listed
                    .iter()
                    .map(|(command, state)| Listed { command_id: id(command), state: *state })
                    .collect();
                let done =
                    writer.commit(Reconcile { agent_id: agent(&session), epoch, listed, now });
                async move { answer(done.await, |told| Answer::Reconciled(self.reconciled(told))) }
                    .boxed()
            }
            Step::Open { agent, ledger, count } => {
                let done = writer.commit(self.opening(agent, ledger, count));
                async move { answer(done.await, |opening| Answer::Opened(opened(opening).epoch)) }
                    .boxed()
            }
            Step::Close { session } => {
                let (tenant_id, agent_id) = (self.fixture.tenant_id, agent(&session));
                let operation = CloseSession { tenant_id, agent_id, epoch, reason: "test", now };
                let done = writer.commit(operation);
                async move { answer(done.await, |()| Answer::Done) }.boxed()
            }
            Step::Cancel { command } => {
                let (tenant_id, command_id) = (self.fixture.tenant_id, id(&command));
                let tenant = self.fixture.store.tenant(tenant_id);
                async move {
                    let done = tenant.cancel_command(command_id, now, audit(tenant_id)).await;
                    answer(done, |cancelled| match cancelled {
                        Cancelled::Unknown => Answer::Unknown,
                        Cancelled::Unsupported => Answer::Refused,
                        Cancelled::Requested { is_sent, .. } => Answer::Cancelled { is_sent },
                    })
                }
                .boxed()
            }
            Step::Refuse { commands } => {
                let refused =
                    commands.iter().map(|command| (id(command), self.agents[0])).collect();
                let system = self.fixture.store.system();
                async move {
                    let reason = EndReason::PermissionRevoked;
                    answer(system.refuse_queued(refused, reason, now).await, |_| Answer::Done)
                }
                .boxed()
            }
        }
    }

    fn submitted(&self, submitted: Submitted) -> Answer {
        match submitted {
            Submitted::New { delivered } => Answer::Submitted { delivered },
            Submitted::Repeated { command_id } => Answer::Repeated(self.number(command_id)),
            Submitted::KeyReused => Answer::KeyReused,
            Submitted::AgentGone => Answer::Unknown,
            Submitted::KeyInvalid => panic!("no key of the model is revoked"),
        }
    }

    fn reconciled(&self, told: Reconciled) -> ExpectedReconciliation {
        let disposition = |(id, disposition)| {
            let told = match disposition {
                Disposition::SendFrom(committed) => Ok(committed.offset_bytes),
                Disposition::Done(receipt) => Err(receipt),
            };
            (self.number(id), told)
        };
        ExpectedReconciliation {
            dispositions: told.dispositions.into_iter().map(disposition).collect(),
            cancels: self.numbers(told.cancels),
            open: self.numbers(told.open),
            moved: self.numbers(told.changed),
        }
    }

    fn number(&self, id: CommandId) -> usize {
        self.commands.iter().position(|known| *known == id).expect("a command of this case")
    }

    fn numbers(&self, ids: Vec<CommandId>) -> BTreeSet<usize> {
        ids.into_iter().map(|id| self.number(id)).collect()
    }

    /// Everything that is stored is as the model has it.
    async fn compare(&self) {
        let tenant = self.fixture.store.tenant(self.fixture.tenant_id);
        for (command, row) in &self.model.rows {
            let id = self.commands[*command];
            let found = self.fixture.command(id).await;
            let report = found.report.map(|report| (report.outcome, report.is_late));
            let stored = found.command;
            let seen = (Some(stored.state), stored.end_reason, report);
            assert_eq!(seen, (row.state, row.reason, row.report), "command {command}");
            assert_eq!(stored.agent_id, self.agents[row.agent]);
            assert_eq!(stored.cancel_requested_at.is_some(), row.is_cancel_requested);
            assert_eq!(stored.finished_at.is_some(), stored.state.is_terminal());
            let output = tenant.output_end(id, OutputStream::Both).await.expect("read");
            assert_eq!(output, row.output_bytes, "output of command {command}");
        }
        for (agent, host) in self.model.hosts.iter().enumerate() {
            let stored = tenant.agent(self.agents[agent]).await.expect("read").expect("the agent");
            assert_eq!((stored.epoch, stored.is_online), (host.epoch, host.is_online));
        }
    }
}

fn answer<T>(done: Result<T, StoreError>, told: impl FnOnce(T) -> Answer) -> Answer {
    match done {
        Ok(done) => told(done),
        Err(StoreError::StaleEpoch) => Answer::Stale,
        Err(_) => Answer::Refused,
    }
}
