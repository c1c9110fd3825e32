//! One simulated agent, from its first connection to the end of the process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use muster_protocol::frame::{Registered, ServerFrame, decode_server_frame};
use muster_protocol::identity::Challenge;
use muster_protocol::limits::DEFAULT_HEARTBEAT_INTERVAL_MS;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::fleet_state::FleetState;
use super::identity::Identity;
use super::socket::Socket;
use super::work;

/// Connection attempts per round.
const ATTEMPTS: usize = 3;
/// Time limit of a handshake up to `registered`.
const OPEN_WAIT: Duration = Duration::from_secs(60);
/// Responses per flush.
const FRAMES_PER_TURN: usize = 32;

/// Connects at the start of each round and runs until the connection ends.
pub async fn run(index: usize, state: Arc<FleetState>, mut rounds: watch::Receiver<u64>) {
    let mut identity = match Identity::new(index, state.trust.as_deref()) {
        Ok(identity) => identity,
        Err(error) => return state.record_failure(index, &error),
    };
    identity.stores_certificate = state.plan.is_mutual;
    while rounds.changed().await.is_ok() {
        match connect(index, &mut identity, &state).await {
            Ok((mut socket, interval)) => {
                state.record_connected();
                let _ended = live(&mut socket, interval, &mut identity, &state).await;
                state.record_disconnected();
                // Rounds that started while this connection existed are over.
                rounds.mark_unchanged();
            }
            Err(error) => {
                state.record_failure(index, &error);
            }
        }
    }
}

async fn connect(
    index: usize,
    identity: &mut Identity,
    state: &FleetState,
) -> Result<(Socket, Duration)> {
    let _turn = state.handshakes.acquire().await?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(OPEN_WAIT, open(index, identity, state)).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(error)) => last = Some(error),
            Err(elapsed) => last = Some(elapsed.into()),
        }
    }
    Err(last.context("connect")?)
}

async fn open(
    index: usize,
    identity: &mut Identity,
    state: &FleetState,
) -> Result<(Socket, Duration)> {
    let plan = &state.plan;
    let mut socket =
        Socket::open(plan.address, index, plan.key.as_deref(), identity.tls.clone()).await?;
    if plan.key.is_none() {
        socket.feed(identity.register(&Challenge::from_bytes([0; 32]), Uuid::nil())).await?;
        socket.flush().await?;
        socket.next().await?;
        return Ok((socket, Duration::from_millis(DEFAULT_HEARTBEAT_INTERVAL_MS)));
    }
    let (challenge, agent_key_id) = connected(&mut socket).await?;
    socket.feed(identity.register(&challenge, agent_key_id)).await?;
    socket.flush().await?;
    let registered = registered(&mut socket).await?;
    identity.agent_id = Some(registered.agent_id);
    identity.highest_epoch = registered.epoch;
    if let Some(authority) = plan.ca_file.as_deref().filter(|_| plan.is_mutual)
        && !identity.has_certificate
    {
        // The server ends this session, which only enrols.
        identity.show(&certificate(&mut socket).await?, authority)?;
        return Box::pin(open(index, identity, state)).await;
    }
    socket.feed(Identity::manifest()).await?;
    for frame in Identity::inventory() {
        socket.feed(frame).await?;
    }
    socket.flush().await?;
    Ok((socket, Duration::from_millis(registered.heartbeat_interval_ms)))
}

async fn connected(socket: &mut Socket) -> Result<(Challenge, Uuid)> {
    match decode_server_frame(&socket.next().await?)? {
        ServerFrame::Connected { challenge: Some(challenge), agent_key_id, .. } => {
            Ok((challenge, agent_key_id))
        }
        _ => anyhow::bail!("the server sent no challenge"),
    }
}

async fn certificate(socket: &mut Socket) -> Result<String> {
    loop {
        if let ServerFrame::Certificate { certificate } =
            decode_server_frame(&socket.next().await?)?
        {
            return Ok(certificate);
        }
    }
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
    state: &FleetState,
) -> Result<()> {
    let heartbeat = work::heartbeat();
    // A random phase, so that the heartbeats of a fleet are spread evenly.
    let phase = Uuid::new_v4().as_u128() % interval.as_millis().max(1);
    let mut due = Instant::now() + Duration::from_millis(u64::try_from(phase)?);
    loop {
        tokio::select! {
            text = socket.next() => {
                let mut answered = work::handle_frame(&text?, identity, state, socket).await?;
                for _ in 0..FRAMES_PER_TURN {
                    let Some(text) = socket.next().now_or_never() else { break };
                    answered |= work::handle_frame(&text?, identity, state, socket).await?;
                }
                if answered {
                    socket.flush().await?;
                }
            }
            () = tokio::time::sleep_until(due) => {
                due += interval;
                socket.feed(heartbeat.clone()).await?;
                socket.flush().await?;
                state.heartbeats.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
