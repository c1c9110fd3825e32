//! The state machine of the protocol, the same over any link.
//!
//! A session starts with a link and ends with a [`SessionEnd`]. Other modules create links and
//! decide what follows the end.

mod assignments;
mod authorities;
mod deregister;
mod ending;
mod handshake;
mod host_requests;
mod inbound;
mod outbound;
pub mod outbox;
pub mod pacer;
pub mod reconnect;

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_protocol::facts::FactReport;
use muster_protocol::frame::{AgentFrame, Registered};
use muster_protocol::{ExitCode, Permissions};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use uuid::Uuid;

use crate::agent::Agent;
use crate::commands::execute::OutputLimits;
use crate::executions::{ExecutionEvent, ExecutionManager};
use crate::link::{Incoming, Link, LinkError, Outgoing};
use crate::sessions::outbox::{Outbox, encode};
use crate::sessions::pacer::Pacer;
use deregister::Deregistration;
pub use ending::SessionEnd;

/// Time limit for each of `connected` and `registered`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of missed heartbeats after which the server counts as gone.
const SILENT_INTERVALS: u32 = 2;
/// Bounds of the interval that a server may request.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3600);
/// Frames handled together, so that acceptances share their syncs.
const FRAMES_PER_BATCH: usize = 64;
/// Frames waiting to be sent; above this number nothing more is received.
const MAX_PENDING_FRAMES: usize = 256;
/// How long the answer to a lifecycle command waits for its receipt.
const EXIT_RECEIPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The attempt to open a better link.
pub type Upgrade<'a> = BoxFuture<'a, Box<dyn Link>>;

/// How a session ended.
pub struct SessionOutcome {
    pub end: SessionEnd,
    pub was_registered: bool,
}

/// Runs the last session of a host: reports, starts nothing, and asks to be deleted.
pub async fn run_deregistration(
    link: Box<dyn Link>,
    agent: &mut Agent,
    stop: &mut watch::Receiver<bool>,
) -> SessionOutcome {
    run_session(link, agent, stop, None, true).await
}

/// Runs one session to its end. If `upgrade` opens a better link, the session ends with that link.
pub async fn run(
    link: Box<dyn Link>,
    agent: &mut Agent,
    stop: &mut watch::Receiver<bool>,
    upgrade: Option<Upgrade<'_>>,
) -> SessionOutcome {
    run_session(link, agent, stop, upgrade, false).await
}

async fn run_session(
    mut link: Box<dyn Link>,
    agent: &mut Agent,
    stop: &mut watch::Receiver<bool>,
    upgrade: Option<Upgrade<'_>>,
    is_deregistering: bool,
) -> SessionOutcome {
    let handshake = tokio::select! {
        handshake = handshake::perform(link.as_mut(), agent, is_deregistering) => handshake,
        _ = stop.wait_for(|stop| *stop) => Err(SessionEnd::Stopped),
    };
    let (permissions, registered) = match handshake {
        Ok(agreed) => agreed,
        Err(ending) => {
            link.close().await;
            return SessionOutcome { end: ending, was_registered: false };
        }
    };
    tracing::info!(
        link = link.name(),
        agent_id = %registered.agent_id,
        epoch = registered.epoch,
        server_version = ?registered.server_version,
        "registered"
    );
    if let Some(status_file) = &mut agent.status_file {
        status_file.set_connected(link.name(), &registered);
    }
    let mut session = Session::new(link, agent, permissions, &registered);
    session.deregistration = is_deregistering.then(Deregistration::begin);
    let wanted = registered.desired_version.as_deref().filter(|_| !is_deregistering);
    if let Some(version) = session.agent.update_requests.desired_update(wanted) {
        session.apply_desired_version(version);
    }
    let ending = match session.send_inventory() {
        Ok(()) => session.run_loop(stop, upgrade).await,
        Err(ending) => ending,
    };
    // The answer to a lifecycle command is durable, so the process exits even if the link breaks.
    let ending = match session.pending_exit {
        Some(pending_exit) if !matches!(ending, SessionEnd::Stopped) => {
            SessionEnd::Exit(pending_exit.code)
        }
        _ => ending,
    };
    // The session over the better link replaces this one. To close it would show the server that the
    // agent leaves.
    if !matches!(ending, SessionEnd::Upgraded(_)) {
        session.link.close().await;
    }
    SessionOutcome { end: ending, was_registered: true }
}

/// A registered session.
struct Session<'a> {
    link: Box<dyn Link>,
    agent: &'a mut Agent,
    permissions: Permissions,
    /// The host's limits, reduced to what the server requested.
    output: OutputLimits,
    outbox: Outbox,
    /// Frames that are sent before any output. Above [`MAX_PENDING_FRAMES`] nothing more is
    /// received.
    pending: VecDeque<Outgoing>,
    heartbeat: Interval,
    /// When a heartbeat was sent while no output was on its way, until it is acknowledged.
    lone_heartbeat_at: Option<Instant>,
    last_received_at: Instant,
    max_silence: Duration,
    /// The process exits once this command has its receipt or the time is up.
    pending_exit: Option<PendingExit>,
    /// Set in the last session of a host that is deregistered.
    deregistration: Option<Deregistration>,
    /// Of the list of assignments that the server sent last in this session.
    assignments_revision: Option<u64>,
    /// Runs of tasks that this session has announced to the server.
    announced_runs: BTreeSet<Uuid>,
    /// The newest facts of this host; absent if the server does not accept facts.
    facts: Option<watch::Receiver<Option<FactReport>>>,
}

#[derive(Debug, Clone, Copy)]
struct PendingExit {
    code: ExitCode,
    command_id: Uuid,
    until: Instant,
}

impl<'a> Session<'a> {
    fn new(
        link: Box<dyn Link>,
        agent: &'a mut Agent,
        permissions: Permissions,
        registered: &Registered,
    ) -> Self {
        let interval = Duration::from_millis(registered.heartbeat_interval_ms)
            .clamp(MIN_HEARTBEAT_INTERVAL, MAX_HEARTBEAT_INTERVAL);
        let mut heartbeat = tokio::time::interval(interval);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let granted = agent.limits.output;
        let wanted_bytes = registered.max_output_bytes.unwrap_or(granted.limit_bytes);
        let limit_bytes = granted.limit_bytes.min(wanted_bytes);
        let pacer = Pacer::new(link.output_shape());
        let mut facts = agent.facts.clone().filter(|_| registered.accepts_facts);
        // Each session sends what is known.
        facts.iter_mut().for_each(watch::Receiver::mark_changed);
        Self {
            link,
            agent,
            permissions,
            output: OutputLimits { limit_bytes, ..granted },
            outbox: Outbox::new(pacer),
            pending: VecDeque::new(),
            heartbeat,
            lone_heartbeat_at: None,
            last_received_at: Instant::now(),
            max_silence: interval * SILENT_INTERVALS + Duration::from_secs(1),
            pending_exit: None,
            deregistration: None,
            assignments_revision: None,
            announced_runs: BTreeSet::new(),
            facts,
        }
    }

    /// Sends the manifest and the inventory, which the server needs before it sends commands.
    fn send_inventory(&mut self) -> Result<(), SessionEnd> {
        if self.deregistration.is_some() {
            self.cancel_waiting();
        }
        self.agent.reload_policy_and_manifest();
        self.push(&self.agent.manifest_frame());
        // Before the inventory lists them, so that the server knows them then.
        for (command_id, run) in self.agent.executions.task_runs() {
            self.announced_runs.insert(command_id);
            self.push(&AgentFrame::TaskRun(run));
        }
        let mut items = self.agent.executions.inventory();
        items.extend(self.agent.update_requests.inventory());
        for page in items.chunks(muster_protocol::limits::MAX_INVENTORY_PAGE) {
            self.push(&AgentFrame::Inventory { items: page.to_vec() });
        }
        self.push(&AgentFrame::InventoryEnd);
        for item in &items {
            self.outbox.await_offset(item.command_id);
            if item.state == muster_protocol::frame::InventoryState::Settled {
                self.outbox.enqueue(item.command_id);
            }
        }
        Ok(())
    }

    async fn run_loop(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        mut upgrade: Option<Upgrade<'_>>,
    ) -> SessionEnd {
        let owner = self.agent.executions.owner_requests();
        loop {
            if let Some(ending) = self.pending_exit_end() {
                return ending;
            }
            if self.agent.update_requests.next_check_at().is_some_and(|at| at <= Instant::now()) {
                self.check_update_result();
            }
            if let Err(ending) = self.advance_deregistration() {
                return ending;
            }
            self.outbox.retry_blocked(Instant::now());
            let can_send = !self.pending.is_empty() || self.outbox.has_queued();
            let deadline = self.next_deadline();
            let step = tokio::select! {
                incoming = self.link.receive(), if self.pending.len() < MAX_PENDING_FRAMES => {
                    SessionStep::Incoming(incoming)
                }
                event = self.agent.executions.next() => SessionStep::ExecutionEvent(event),
                _ = self.heartbeat.tick() => SessionStep::Heartbeat,
                () = owner.notified() => SessionStep::OwnerRequest,
                _ = stop.wait_for(|stop| *stop) => SessionStep::Stop,
                () = facts_changed(&mut self.facts) => SessionStep::Facts,
                link = poll_upgrade(&mut upgrade) => SessionStep::Upgrade(link),
                () = until(deadline) => SessionStep::Deadline,
                () = std::future::ready(()), if can_send => SessionStep::Send,
            };
            let outcome = match step {
                SessionStep::Incoming(incoming) => self.receive_batch(incoming),
                SessionStep::ExecutionEvent(event) => {
                    self.handle_event(event);
                    Ok(())
                }
                SessionStep::Heartbeat => self.send_heartbeat(),
                SessionStep::OwnerRequest => {
                    self.accept_owner_request();
                    Ok(())
                }
                SessionStep::Facts => {
                    self.send_facts();
                    Ok(())
                }
                SessionStep::Send => self.send_next().await,
                SessionStep::Stop => Err(SessionEnd::Stopped),
                SessionStep::Upgrade(link) => Err(SessionEnd::Upgraded(link)),
                // The start of the loop checks the deadlines.
                SessionStep::Deadline => Ok(()),
            };
            if let Err(ending) = outcome {
                return ending;
            }
        }
    }

    fn pending_exit_end(&self) -> Option<SessionEnd> {
        let pending_exit = self.pending_exit?;
        let is_receipted = self.agent.executions.ledger().entry(pending_exit.command_id).is_none();
        let is_reported = is_receipted && self.pending.is_empty();
        let is_over = is_reported || Instant::now() >= pending_exit.until;
        is_over.then_some(SessionEnd::Exit(pending_exit.code))
    }

    fn handle_event(&mut self, event: ExecutionEvent) {
        match event {
            ExecutionEvent::Started(command_id) => {
                self.push(&AgentFrame::Started { command_id });
                self.outbox.enqueue(command_id);
            }
            ExecutionEvent::Output(command_id) | ExecutionEvent::Settled(command_id) => {
                self.outbox.enqueue(command_id);
            }
            // Until the server knows the command again, its acknowledgement asks for it.
            ExecutionEvent::Steps(command_id) if !self.outbox.awaits_offset(command_id) => {
                self.push_step_progress(command_id);
            }
            ExecutionEvent::Steps(_) => {}
            ExecutionEvent::TaskRun(command_id) => {
                // An event from before the inventory is about a run that is announced already.
                if let Some(run) = self.agent.executions.task_run(command_id)
                    && self.announced_runs.insert(command_id)
                {
                    self.outbox.await_offset(command_id);
                    self.push(&AgentFrame::TaskRun(run));
                }
            }
            ExecutionEvent::AssignmentsChanged => self.send_assignment_states(),
        }
    }

    fn send_heartbeat(&mut self) -> Result<(), SessionEnd> {
        // The progress of a large frame in either direction is a sign of life too.
        if self.last_received_at.elapsed().min(self.link.silence()) > self.max_silence {
            return Err(SessionEnd::Broken(LinkError::TimedOut("acknowledge heartbeats")));
        }
        if self.agent.reload_policy_and_manifest() {
            self.push(&self.agent.manifest_frame());
        }
        self.agent.executions.run_maintenance();
        self.outbox.enqueue_all();
        let running = self.agent.executions.running_count();
        let heartbeat = self.agent.telemetry.heartbeat(running);
        self.push(&AgentFrame::Heartbeat(heartbeat));
        self.lone_heartbeat_at = self.outbox.is_idle().then(Instant::now);
        Ok(())
    }

    /// Sends the facts of this host, once there are some.
    fn send_facts(&mut self) {
        let report = self.facts.as_mut().and_then(|facts| facts.borrow_and_update().clone());
        if let Some(report) = report {
            self.push(&AgentFrame::Facts(report));
        }
    }

    pub(super) fn push_step_progress(&mut self, command_id: Uuid) {
        if let Some(progress) = self.agent.executions.step_progress(command_id) {
            self.push(&AgentFrame::StepProgress { command_id, progress });
        }
    }

    fn push(&mut self, frame: &AgentFrame) {
        self.pending.extend(encode(frame));
    }
}

enum SessionStep {
    Incoming(Result<Incoming, LinkError>),
    ExecutionEvent(ExecutionEvent),
    Heartbeat,
    OwnerRequest,
    Facts,
    Send,
    Stop,
    Upgrade(Box<dyn Link>),
    Deadline,
}

/// Polls the manager while another future is awaited; its events are collected.
pub async fn poll_with<T>(
    executions: &mut ExecutionManager,
    waited: impl Future<Output = T>,
    events: &mut Vec<ExecutionEvent>,
) -> T {
    let mut waited = std::pin::pin!(waited);
    loop {
        tokio::select! {
            biased;
            done = &mut waited => return done,
            event = executions.next() => {
                if !events.contains(&event) {
                    events.push(event);
                }
            }
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Waits for other facts than those that were sent.
async fn facts_changed(facts: &mut Option<watch::Receiver<Option<FactReport>>>) {
    if let Some(known) = facts
        && known.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

async fn poll_upgrade(upgrade: &mut Option<Upgrade<'_>>) -> Box<dyn Link> {
    match upgrade {
        Some(upgrade) => Pin::new(upgrade).await,
        None => std::future::pending().await,
    }
}
