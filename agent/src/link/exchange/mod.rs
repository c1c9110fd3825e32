//! The link for networks that block WebSockets: frames in the bodies of HTTP requests.
//!
//! At most two requests are open: one that waits for the server, and one that carries frames and
//! then takes over the waiting. Answers are handled in the order of their sequence numbers.
//!
//! Urgent frames (heartbeats, answers, states) leave in bodies of their own, before output and results.

mod client;
mod frames;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use muster_protocol::frame::exchange::{
    ExchangePart, ExchangeRequest, ExchangeResponse, MAX_OPEN_REQUESTS,
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::path_limits::MIN_BODY_BYTES;
use super::{Connector, Incoming, Link, LinkError, Outgoing, OutputShape, PathLimits, Progress};
pub use client::client;
use client::{ExchangeClient, PostError};
use frames::{FrameBatch, Frames};

/// Frames queued in either direction, in addition to those in bodies.
const QUEUED_FRAMES: usize = 16;
/// Frames with output or results that are queued: more than a full window of output.
const QUEUED_BULK: usize = 64;
/// Payload below which the head of a request costs more than the frame saves.
const MIN_FRAME_PAYLOAD: usize = 4_000;
/// How long output may be on its way: a request that is being sent, and the next one.
const HTTP_OUTPUT_DELAY: Duration = Duration::from_millis(1_800);
/// How long the link has no open request before it sends an empty one: the answer to the last one
/// usually lets the session send more.
const EMPTY_REQUEST_DELAY: Duration = Duration::from_millis(10);
/// Bodies up to this size pass every proxy.
const PROVEN_BYTES: usize = 64 * 1024;
/// Upload time of urgent frames, which can't be cut: one kilobyte a second.
const UPLOAD_MS_PER_BYTE: u64 = 1;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Space in a body for its header.
const BODY_MARGIN_BYTES: usize = 64;
/// Space in a body for its header and those of one output frame with several records.
const FRAME_MARGIN_BYTES: usize = 1_024;

/// A session over HTTP.
pub struct Exchange {
    urgent: Option<mpsc::Sender<ExchangePart>>,
    bulk: Option<mpsc::Sender<ExchangePart>>,
    /// How much output or results one body may contain.
    batch_bytes: Arc<AtomicUsize>,
    from_server: mpsc::Receiver<Result<Incoming, LinkError>>,
    /// Aborted when the link is dropped.
    driver: JoinSet<()>,
    progress: Progress,
    limits: PathLimits,
    /// The upload time that the server grants the urgent frames that are being sent.
    upload_ms: Arc<AtomicU64>,
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
        let progress = Progress::default();
        let client = ExchangeClient::new(connector, key, wait, progress.clone())?;
        let (urgent, urgent_frames) = mpsc::channel(QUEUED_FRAMES);
        let (bulk, bulk_frames) = mpsc::channel(QUEUED_BULK);
        let (incoming, from_server) = mpsc::channel(QUEUED_FRAMES);
        let mut driver = JoinSet::new();
        let (limits, upload_ms) = (connector.limits.clone(), Arc::<AtomicU64>::default());
        let batch_bytes = Arc::new(AtomicUsize::new(MIN_FRAME_PAYLOAD));
        let batch = Arc::clone(&batch_bytes);
        let frames = Frames::new(urgent_frames, bulk_frames, batch, limits.clone());
        let uploads = Arc::clone(&upload_ms);
        driver.spawn(async move {
            let mut driver = Driver::new(client, frames, wait, uploads);
            if let Err(error) = driver.run(&incoming).await {
                let _ = incoming.send(Err(error)).await;
            }
        });
        let (urgent, bulk) = (Some(urgent), Some(bulk));
        Ok(Self { urgent, bulk, batch_bytes, from_server, driver, progress, limits, upload_ms })
    }
}

impl Link for Exchange {
    fn name(&self) -> &'static str {
        "http"
    }

    fn send(&mut self, frame: Outgoing) -> BoxFuture<'_, Result<(), LinkError>> {
        queue(self.urgent.as_ref(), frame).boxed()
    }

    fn send_bulk(
        &mut self,
        frame: Outgoing,
        batch_bytes: usize,
    ) -> BoxFuture<'_, Result<(), LinkError>> {
        self.batch_bytes.store(batch_bytes, Ordering::Relaxed);
        queue(self.bulk.as_ref(), frame).boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Incoming, LinkError>> {
        async { self.from_server.recv().await.unwrap_or(Err(LinkError::Ended)) }.boxed()
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn silence(&self) -> Duration {
        let upload = Duration::from_millis(self.upload_ms.load(Ordering::Relaxed));
        self.progress.last_at().elapsed().saturating_sub(upload)
    }

    fn output_shape(&self) -> OutputShape {
        OutputShape {
            min_frame_bytes: MIN_FRAME_PAYLOAD,
            max_frame_bytes: self.limits.max_body_bytes() - FRAME_MARGIN_BYTES,
            delay: HTTP_OUTPUT_DELAY,
            // A second request would delay a ping by its own time on a very slow network.
            min_frames: 1,
            // One is sent while the other one waits for its acknowledgement.
            frames_per_window: 2,
        }
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        async {
            // The driver closes the session once the senders are gone. Frames that arrive meanwhile
            // are received to make room for it.
            self.urgent = None;
            self.bulk = None;
            let goodbye = async { while self.from_server.recv().await.is_some() {} };
            let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
            self.driver.abort_all();
        }
        .boxed()
    }
}

async fn queue(
    sender: Option<&mpsc::Sender<ExchangePart>>,
    frame: Outgoing,
) -> Result<(), LinkError> {
    let part = match frame {
        Outgoing::Text(text) => ExchangePart::Text(text),
        Outgoing::Binary(bytes) => ExchangePart::Binary(bytes),
    };
    let Some(sender) = sender else { return Err(LinkError::Ended) };
    sender.send(part).await.map_err(|_| LinkError::Ended)
}

/// A request with a larger body than any that the server has received.
#[derive(Debug, Clone, Copy)]
struct Unproven {
    sequence: u64,
    bytes: usize,
    is_urgent: bool,
}

/// Keeps requests open and handles answers in order.
struct Driver {
    client: ExchangeClient,
    frames: Frames,
    /// Size of the largest body that the server has received.
    proven_bytes: usize,
    /// A larger one is on its way. Nothing follows it until it is answered, because a proxy may
    /// refuse it.
    unproven: Option<Unproven>,
    upload_ms: Arc<AtomicU64>,
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
    fn new(
        client: ExchangeClient,
        frames: Frames,
        wait: Duration,
        upload_ms: Arc<AtomicU64>,
    ) -> Self {
        Self {
            client,
            frames,
            proven_bytes: PROVEN_BYTES,
            unproven: None,
            upload_ms,
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
        // The server can send only while a request is open.
        let mut empty_request_at = Instant::now();
        loop {
            if self.is_closed && self.received.is_empty() {
                return Ok(());
            }
            // No request may overtake the one that opens the session.
            let may_send =
                open.len() < MAX_OPEN_REQUESTS && self.next_answer > 0 && self.unproven.is_none();
            tokio::select! {
                // Never awaited alone: the session may be sending a frame at this moment, and each
                // would wait for the other.
                permit = incoming.reserve(), if !self.received.is_empty() => {
                    let permit = permit.map_err(|_| LinkError::Ended)?;
                    if let Some(frame) = self.received.pop_front() {
                        permit.send(Ok(frame));
                    }
                }
                Some(answer) = open.next(), if !self.is_closed => {
                    empty_request_at = Instant::now() + EMPTY_REQUEST_DELAY;
                    match answer {
                        Ok(answer) => self.handle_answer(answer),
                        Err(PostError::TooLarge(request)) => self.retry_smaller(request)?,
                        Err(PostError::Closed { code, reason }) => {
                            self.received.push_back(Incoming::Closed { code, reason });
                            self.is_closed = true;
                        }
                        Err(PostError::Broken(error)) => return Err(error),
                    }
                }
                () = sleep_until(empty_request_at), if open.is_empty() && !self.is_closed => {
                    let body = self.frames.take();
                    open.push(self.post(body, self.wait_ms));
                }
                is_open = self.frames.wait(), if may_send || self.is_closed => {
                    if self.is_closed && is_open {
                        // Too late, but the session must be able to continue until it receives the
                        // close.
                        self.frames.take();
                        continue;
                    }
                    if !is_open {
                        if self.is_closed {
                            return Ok(());
                        }
                        let close = ExchangePart::Close { code: 1000, reason: String::new() };
                        let body = FrameBatch { parts: vec![close], is_urgent: true };
                        let _ = self.post(body, 0).await;
                        return Ok(());
                    }
                    let body = self.frames.take();
                    open.push(self.post(body, self.wait_ms));
                }
            }
        }
    }

    fn post(
        &mut self,
        body: FrameBatch,
        wait_ms: u32,
    ) -> BoxFuture<'static, Result<ExchangeResponse, PostError>> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let bytes = body.bytes();
        let is_unproven = bytes > self.proven_bytes;
        if is_unproven {
            self.unproven = Some(Unproven { sequence, bytes, is_urgent: body.is_urgent });
        }
        // Answered at once, so that other frames need not wait for long.
        let wait_ms = if is_unproven { 0 } else { wait_ms };
        let parts = body.parts;
        let request = ExchangeRequest { session_id: self.session_id, sequence, wait_ms, parts };
        let upload_ms = if body.is_urgent { bytes as u64 * UPLOAD_MS_PER_BYTE } else { 0 };
        let posting = self.client.clone().post(request, Duration::from_millis(upload_ms));
        let uploads = Arc::clone(&self.upload_ms);
        async move {
            uploads.fetch_add(upload_ms, Ordering::Relaxed);
            let answer = posting.await;
            uploads.fetch_sub(upload_ms, Ordering::Relaxed);
            answer
        }
        .boxed()
    }

    /// Sends the frames of a refused body again, in smaller ones.
    fn retry_smaller(&mut self, request: ExchangeRequest) -> Result<(), LinkError> {
        let bytes: usize = request.parts.iter().map(ExchangePart::encoded_bytes).sum();
        // If others have followed it, only a new session brings the frames into order again.
        let last = self.unproven.take().filter(|last| last.sequence == request.sequence);
        let Some(last) = last.filter(|_| bytes > MIN_BODY_BYTES) else {
            let problem = String::new();
            return Err(LinkError::Refused { action: "the exchange", status: 413, problem });
        };
        self.next_sequence = request.sequence;
        self.proven_bytes = self.proven_bytes.min(bytes / 2);
        self.frames.put_back(request.parts, last.is_urgent);
        Ok(())
    }

    /// Handles answers in their order.
    fn handle_answer(&mut self, answer: ExchangeResponse) {
        if let Some(proven) = self.unproven.take_if(|body| body.sequence == answer.sequence) {
            self.proven_bytes = self.proven_bytes.max(proven.bytes);
        }
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
