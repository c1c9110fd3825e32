//! One simulated agent, from its first connection to the end of the process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use muster_protocol::frame::{Registered, ServerFrame, decode_server_frame};
use muster_protocol::limits::DEFAULT_HEARTBEAT_INTERVAL_MS;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::board::Board;
use super::identity::Identity;
use super::socket::Socket;
use super::work;

/// Attempts of one round.
const ATTEMPTS: usize = 3;
/// For a handshake up to `registered`.
const OPEN_WAIT: Duration = Duration::from_secs(60);
/// Frames answered with one flush.
const FRAMES_PER_TURN: usize = 32;

/// Connects whenever a round begins and lives until the connection ends.
pub async fn run(index: usize, board: Arc<Board>, mut rounds: watch::Receiver<u64>) {
    let mut identity = Identity::new(index, board.trust.as_deref());
    while rounds.changed().await.is_ok() {
        match connect(index, &mut identity, &board).await {
            Ok((mut socket, interval)) => {
                board.went_up();
                let _ended = live(&mut socket, interval, &mut identity, &board).await;
                board.went_down();
                // A round that began while this one lived is over.
                rounds.mark_unchanged();
            }
            Err(error) => {
                board.could_not(index, &error);
            }
        }
    }
}

async fn connect(
    index: usize,
    identity: &mut Identity,
    board: &Board,
) -> Result<(Socket, Duration)> {
    let _turn = board.handshakes.acquire().await?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(OPEN_WAIT, open(index, identity, board)).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(error)) => last = Some(error),
            Err(elapsed) => last = Some(elapsed.into()),
        }
    }
    Err(last.context("connect")?)
}

async fn open(index: usize, identity: &mut Identity, board: &Board) -> Result<(Socket, Duration)> {
    let plan = &board.plan;
    let mut socket =
        Socket::open(plan.address, index, plan.key.as_deref(), identity.tls.clone()).await?;
    if plan.key.is_none() {
        socket.feed(identity.register()).await?;
        socket.flush().await?;
        socket.next().await?;
        return Ok((socket, Duration::from_millis(DEFAULT_HEARTBEAT_INTERVAL_MS)));
    }
    socket.feed(identity.register()).await?;
    socket.flush().await?;
    let registered = registered(&mut socket).await?;
    identity.agent_id = Some(registered.agent_id);
    identity.highest_epoch = registered.epoch;
    socket.feed(Identity::manifest()).await?;
    for frame in Identity::inventory() {
        socket.feed(frame).await?;
    }
    socket.flush().await?;
    Ok((socket, Duration::from_millis(registered.heartbeat_interval_ms)))
}

async fn registered(socket: &mut Socket) -> Result<Registered> {
    loop {
        if let ServerFrame::Registered(registered) = decode_server_frame(&socket.next().await?)? {
            return Ok(*registered);
        }
    }
}

async fn live(
    socket: &mut Socket,
    interval: Duration,
    identity: &mut Identity,
    board: &Board,
) -> Result<()> {
    let heartbeat = work::heartbeat();
    // A random phase: a fleet does not beat in step.
    let phase = Uuid::new_v4().as_u128() % interval.as_millis().max(1);
    let mut due = Instant::now() + Duration::from_millis(u64::try_from(phase)?);
    loop {
        tokio::select! {
            text = socket.next() => {
                let mut answered = work::take(&text?, identity, board, socket).await?;
                for _ in 0..FRAMES_PER_TURN {
                    let Some(text) = socket.next().now_or_never() else { break };
                    answered |= work::take(&text?, identity, board, socket).await?;
                }
                if answered {
                    socket.flush().await?;
                }
            }
            () = tokio::time::sleep_until(due) => {
                due += interval;
                socket.feed(heartbeat.clone()).await?;
                socket.flush().await?;
                board.heartbeats.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
