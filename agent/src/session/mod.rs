//! The protocol's state machine, the same over any link.
//!
//! A session begins with a link and ends with an [`Ending`]; how links are made and what follows
//! an ending is for others to decide.

mod ending;
mod greeting;
mod intake;
mod leaving;
mod owner;
mod sending;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_protocol::frame::{AgentFrame, Registered};
use muster_protocol::{CommandName, ExitCode, Permissions};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use uuid::Uuid;

use crate::agent::Agent;
use crate::commands::execute::OutputBounds;
use crate::custody::{Custody, Notice};
use crate::link::{Incoming, Link, LinkError, Outgoing};
use crate::outbox::{Outbox, encode};
pub use ending::Ending;
use leaving::Leaving;

/// For `connected` and for `registered`.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that misses this many heartbeats is not there.
const SILENT_INTERVALS: u32 = 2;
/// What a server may ask for as the interval.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3600);
/// Frames taken together, so that acceptances share their syncs.
const FRAMES_PER_TURN: usize = 64;
/// Answers that wait to be sent; a server that reads slower than it asks is asked to wait.
const MAX_PENDING: usize = 256;
/// How long the answer to a lifecycle command waits for its receipt.
const FAREWELL: Duration = Duration::from_secs(2);

/// A better link on its way.
pub type Upgrade<'a> = BoxFuture<'a, Box<dyn Link>>;

/// A session's story in short.
pub struct Ended {
    pub ending: Ending,
    pub was_registered: bool,
}

/// Runs the last session of a host that leaves the fleet: reports, begins nothing, and asks to be
/// deleted.
pub async fn leave(
    link: Box<dyn Link>,
    agent: &mut Agent,
    stop: &mut watch::Receiver<bool>,
) -> Ended {
    hold(link, agent, stop, None, true).await
}

/// Runs one session to its end. `upgrade`, if there is one, ends it by giving a better link.
pub async fn run(
    link: Box<dyn Link>,
    agent: &mut Agent,
    stop: &mut watch::Receiver<bool>,
    upgrade: Option<Upgrade<'_>>,
) -> Ended {
    hold(link, agent, stop, upgrade, false).await
}

async fn hold(
    mut link: Box<dyn Link>,
    agent: &mut Agent,
    stop: &mut watch::Receiver<bool>,
    upgrade: Option<Upgrade<'_>>,
    is_leaving: bool,
) -> Ended {
    let greeting = tokio::select! {
        greeting = greeting::exchange(link.as_mut(), agent, is_leaving) => greeting,
        _ = stop.wait_for(|stop| *stop) => Err(Ending::Stopped),
    };
    let (permissions, registered) = match greeting {
        Ok(agreed) => agreed,
        Err(ending) => {
            link.close().await;
            return Ended { ending, was_registered: false };
        }
    };
    tracing::info!(
        link = link.name(),
        agent_id = %registered.agent_id,
        epoch = registered.epoch,
        server_version = %registered.server_version,
        "registered"
    );
    if let Some(board) = &mut agent.board {
        board.connected(link.name(), registered.agent_id);
    }
    let mut session = Session::new(link, agent, permissions, &registered);
    session.leaving = is_leaving.then(Leaving::begin);
    let is_allowed = session.permissions.allows(CommandName::Update) && !is_leaving;
    let wanted = registered.desired_version.as_deref().filter(|_| is_allowed);
    if let Some(version) = session.agent.desk.wants(wanted) {
        session.end_for(None, version);
    }
    let ending = match session.begin() {
        Ok(()) => session.go_on(stop, upgrade).await,
        Err(ending) => ending,
    };
    // A lifecycle command is answered for good: a link that breaks must not leave it undone.
    let ending = match session.farewell {
        Some(farewell) if !matches!(ending, Ending::Stopped) => Ending::Exit(farewell.code),
        _ => ending,
    };
    session.link.close().await;
    Ended { ending, was_registered: true }
}

/// A registered session.
struct Session<'a> {
    link: Box<dyn Link>,
    agent: &'a mut Agent,
    permissions: Permissions,
    /// What the host grants, and no more than the server wants.
    output: OutputBounds,
    outbox: Outbox,
    /// Frames that go before any output. Above [`MAX_PENDING`] nothing more is taken in.
    pending: VecDeque<Outgoing>,
    heartbeat: Interval,
    heard_at: Instant,
    silence: Duration,
    /// What the process ends with, once this command has its receipt or the time is up.
    farewell: Option<Farewell>,
    /// Set in the last session of a host that leaves the fleet.
    leaving: Option<Leaving>,
    odd_frames: std::collections::BTreeSet<String>,
}

#[derive(Debug, Clone, Copy)]
struct Farewell {
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
        Self {
            link,
            agent,
            permissions,
            output: OutputBounds { limit_bytes, ..granted },
            outbox: Outbox::default(),
            pending: VecDeque::new(),
            heartbeat,
            heard_at: Instant::now(),
            silence: interval * SILENT_INTERVALS + Duration::from_secs(1),
            farewell: None,
            leaving: None,
            odd_frames: Default::default(),
        }
    }

    /// Manifest and inventory: what the server has to know before it sends anything.
    fn begin(&mut self) -> Result<(), Ending> {
        if self.leaving.is_some() {
            self.take_back_waiting();
        }
        self.agent.reload_rules();
        self.push(&self.agent.rules());
        let mut items = self.agent.custody.inventory();
        items.extend(self.agent.desk.inventory());
        for page in items.chunks(muster_protocol::limits::MAX_INVENTORY_PAGE) {
            self.push(&AgentFrame::Inventory { items: page.to_vec() });
        }
        self.push(&AgentFrame::InventoryEnd);
        for item in &items {
            self.outbox.hold(item.command_id);
            if item.state == muster_protocol::frame::InventoryState::Settled {
                self.outbox.wake(item.command_id);
            }
        }
        Ok(())
    }

    async fn go_on(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        mut upgrade: Option<Upgrade<'_>>,
    ) -> Ending {
        let owner = self.agent.custody.owner();
        loop {
            if let Some(ending) = self.farewell_ending() {
                return ending;
            }
            if self.agent.desk.look_at().is_some_and(|at| at <= Instant::now()) {
                self.look_for_verdict();
            }
            if let Err(ending) = self.go_on_leaving() {
                return ending;
            }
            let can_send = !self.pending.is_empty() || self.outbox.has_turns();
            let deadline = self.next_deadline();
            let step = tokio::select! {
                incoming = self.link.receive(), if self.pending.len() < MAX_PENDING => {
                    Step::Incoming(incoming)
                }
                notice = self.agent.custody.next() => Step::Notice(notice),
                _ = self.heartbeat.tick() => Step::Heartbeat,
                () = owner.notified() => Step::OwnerAsks,
                _ = stop.wait_for(|stop| *stop) => Step::Stop,
                link = poll_upgrade(&mut upgrade) => Step::Upgrade(link),
                () = until(deadline) => Step::Deadline,
                () = std::future::ready(()), if can_send => Step::Send,
            };
            let outcome = match step {
                Step::Incoming(incoming) => self.take_in(incoming),
                Step::Notice(notice) => {
                    self.notice(notice);
                    Ok(())
                }
                Step::Heartbeat => self.beat(),
                Step::OwnerAsks => {
                    self.take_request();
                    Ok(())
                }
                Step::Send => self.send_next().await,
                Step::Stop => Err(Ending::Stopped),
                Step::Upgrade(link) => Err(Ending::Upgraded(link)),
                // The loop's head sees that the time is up.
                Step::Deadline => Ok(()),
            };
            if let Err(ending) = outcome {
                return ending;
            }
        }
    }

    fn farewell_ending(&self) -> Option<Ending> {
        let farewell = self.farewell?;
        let is_receipted = self.agent.custody.ledger().entry(farewell.command_id).is_none();
        let is_told = is_receipted && self.pending.is_empty();
        let is_over = is_told || Instant::now() >= farewell.until;
        is_over.then_some(Ending::Exit(farewell.code))
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Started(command_id) => {
                self.push(&AgentFrame::Started { command_id });
                self.outbox.wake(command_id);
            }
            Notice::Output(command_id) | Notice::Settled(command_id) => {
                self.outbox.wake(command_id);
            }
        }
    }

    fn beat(&mut self) -> Result<(), Ending> {
        if self.heard_at.elapsed() > self.silence {
            return Err(Ending::Broken(LinkError::TimedOut("heartbeats")));
        }
        if self.agent.reload_rules() {
            self.push(&self.agent.rules());
        }
        self.agent.custody.keep_house();
        self.outbox.wake_all();
        let running = self.agent.custody.running();
        let heartbeat = self.agent.meter.heartbeat(running);
        self.push(&AgentFrame::Heartbeat(heartbeat));
        Ok(())
    }

    fn push(&mut self, frame: &AgentFrame) {
        self.pending.extend(encode(frame));
    }
}

enum Step {
    Incoming(Result<Incoming, LinkError>),
    Notice(Notice),
    Heartbeat,
    OwnerAsks,
    Send,
    Stop,
    Upgrade(Box<dyn Link>),
    Deadline,
}

/// Waits for something while the host's jobs go on; what they tell is put aside.
pub async fn looking_after<T>(
    custody: &mut Custody,
    waited: impl Future<Output = T>,
    notices: &mut Vec<Notice>,
) -> T {
    let mut waited = std::pin::pin!(waited);
    loop {
        tokio::select! {
            biased;
            done = &mut waited => return done,
            notice = custody.next() => {
                if !notices.contains(&notice) {
                    notices.push(notice);
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

async fn poll_upgrade(upgrade: &mut Option<Upgrade<'_>>) -> Box<dyn Link> {
    match upgrade {
        Some(upgrade) => Pin::new(upgrade).await,
        None => std::future::pending().await,
    }
}
