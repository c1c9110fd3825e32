//! The link for networks that block WebSockets: frames in the bodies of HTTP requests.
//!
//! At most two requests are open: one that waits for the server, and one that carries frames and
//! then takes over the waiting. Answers are handled in the order of their sequence numbers.

mod request;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use muster_protocol::frame::exchange::{
    ExchangePart, ExchangeRequest, ExchangeResponse, MAX_BODY_BYTES,
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Connector, Incoming, Link, LinkError, Outgoing};
pub use request::client;
use request::{ExchangeClient, PostError};

/// Frames queued in either direction, in addition to those in bodies.
const QUEUED_FRAMES: usize = 16;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Space in a body for its header.
const BODY_MARGIN_BYTES: usize = 64;

/// A session over HTTP.
pub struct Exchange {
    to_server: Option<mpsc::Sender<ExchangePart>>,
    from_server: mpsc::Receiver<Result<Incoming, LinkError>>,
    /// Aborted when the link is dropped.
    driver: JoinSet<()>,
}

impl Exchange {
    /// Prepares a link; the first request opens it.
    ///
    /// # Errors
    /// [`LinkError::Broken`] if no HTTP client can be created.
    pub fn open(
        connector: &Connector,
        key: &SecretString,
        wait: Duration,
    ) -> Result<Self, LinkError> {
        let client = ExchangeClient::new(connector, key, wait)?;
        let (to_server, outgoing) = mpsc::channel(QUEUED_FRAMES);
        let (incoming, from_server) = mpsc::channel(QUEUED_FRAMES);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let mut driver = Driver::new(client, outgoing, wait);
            if let Err(error) = driver.run(&incoming).await {
                let _ = incoming.send(Err(error)).await;
            }
        });
        Ok(Self { to_server: Some(to_server), from_server, driver })
    }
}

impl Link for Exchange {
    fn name(&self) -> &'static str {
        "http"
    }

    fn send(&mut self, frame: Outgoing) -> BoxFuture<'_, Result<(), LinkError>> {
        let part = match frame {
            Outgoing::Text(text) => ExchangePart::Text(text),
            Outgoing::Binary(bytes) => ExchangePart::Binary(bytes),
        };
        async {
            let Some(sender) = &self.to_server else { return Err(LinkError::Ended) };
            sender.send(part).await.map_err(|_| LinkError::Ended)
        }
        .boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Incoming, LinkError>> {
        async { self.from_server.recv().await.unwrap_or(Err(LinkError::Ended)) }.boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        async {
            // The driver closes the session once the sender is gone. Frames that arrive meanwhile
            // are received to make room for it.
            self.to_server = None;
            let goodbye = async { while self.from_server.recv().await.is_some() {} };
            let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
            self.driver.abort_all();
        }
        .boxed()
    }
}

/// Keeps requests open and handles answers in order.
struct Driver {
    client: ExchangeClient,
    outgoing: mpsc::Receiver<ExchangePart>,
    /// Did not fit into the previous body.
    deferred: Option<ExchangePart>,
    wait_ms: u32,
    session_id: Uuid,
    next_sequence: u64,
    next_answer: u64,
    out_of_order: BTreeMap<u64, ExchangeResponse>,
    /// Frames for the session. Bounded by two answers and the frames that the session has not read.
    received: VecDeque<Incoming>,
    /// The server has ended the session; frames that arrived before are still delivered.
    is_closed: bool,
}

impl Driver {
    fn new(client: ExchangeClient, outgoing: mpsc::Receiver<ExchangePart>, wait: Duration) -> Self {
        Self {
            client,
            outgoing,
            deferred: None,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            session_id: Uuid::new_v4(),
            next_sequence: 0,
            next_answer: 0,
            out_of_order: BTreeMap::new(),
            received: VecDeque::new(),
            is_closed: false,
        }
    }

    /// Runs until either side closes the session or an error breaks it.
    async fn run(
        &mut self,
        incoming: &mpsc::Sender<Result<Incoming, LinkError>>,
    ) -> Result<(), LinkError> {
        let mut open = FuturesUnordered::new();
        loop {
            if self.is_closed && self.received.is_empty() {
                return Ok(());
            }
            if open.is_empty() && !self.is_closed {
                let parts = self.parts(None);
                open.push(self.post(parts, self.wait_ms));
            }
            // No request may overtake the one that opens the session.
            let may_send = open.len() < 2 && self.next_answer > 0;
            tokio::select! {
                // Never awaited alone: the session may be sending a frame at this moment, and each
                // would wait for the other.
                room = incoming.reserve(), if !self.received.is_empty() => {
                    let room = room.map_err(|_| LinkError::Ended)?;
                    if let Some(frame) = self.received.pop_front() {
                        room.send(Ok(frame));
                    }
                }
                Some(answer) = open.next(), if !self.is_closed => match answer {
                    Ok(answer) => self.handle_answer(answer),
                    Err(PostError::Closed { code, reason }) => {
                        self.received.push_back(Incoming::Closed { code, reason });
                        self.is_closed = true;
                    }
                    Err(PostError::Broken(error)) => return Err(error),
                },
                part = self.next_part(), if may_send || self.is_closed => {
                    if self.is_closed && part.is_some() {
                        // Too late, but the session must be able to continue until it receives the
                        // close.
                        continue;
                    }
                    let Some(part) = part else {
                        if self.is_closed {
                            return Ok(());
                        }
                        let close = ExchangePart::Close { code: 1000, reason: String::new() };
                        let _ = self.post(vec![close], 0).await;
                        return Ok(());
                    };
                    let parts = self.parts(Some(part));
                    open.push(self.post(parts, self.wait_ms));
                }
            }
        }
    }

    async fn next_part(&mut self) -> Option<ExchangePart> {
        match self.deferred.take() {
            Some(part) => Some(part),
            None => self.outgoing.recv().await,
        }
    }

    /// The queued frames, as many as fit into one body.
    fn parts(&mut self, first: Option<ExchangePart>) -> Vec<ExchangePart> {
        let mut parts = Vec::new();
        let mut room = MAX_BODY_BYTES - BODY_MARGIN_BYTES;
        let mut next = first.or_else(|| self.deferred.take());
        loop {
            let part = match next.take() {
                Some(part) => part,
                None => match self.outgoing.try_recv() {
                    Ok(part) => part,
                    Err(_) => return parts,
                },
            };
            let bytes = part.encoded_bytes();
            if bytes > room && !parts.is_empty() {
                self.deferred = Some(part);
                return parts;
            }
            room = room.saturating_sub(bytes);
            parts.push(part);
        }
    }

    fn post(
        &mut self,
        parts: Vec<ExchangePart>,
        wait_ms: u32,
    ) -> BoxFuture<'static, Result<ExchangeResponse, PostError>> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let request = ExchangeRequest { session_id: self.session_id, sequence, wait_ms, parts };
        self.client.clone().post(request).boxed()
    }

    /// Handles answers in their order.
    fn handle_answer(&mut self, answer: ExchangeResponse) {
        self.out_of_order.insert(answer.sequence, answer);
        while let Some(answer) = self.out_of_order.remove(&self.next_answer) {
            self.next_answer += 1;
            for part in answer.parts {
                let frame = match part {
                    ExchangePart::Text(text) => Incoming::Text(text),
                    ExchangePart::Binary(_) => Incoming::Binary,
                    ExchangePart::Close { code, reason } => {
                        self.received.push_back(Incoming::Closed { code, reason });
                        self.is_closed = true;
                        return;
                    }
                };
                self.received.push_back(frame);
            }
        }
    }
}
