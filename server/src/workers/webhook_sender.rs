//! Sends webhooks when they are due, with limits in total and for each host, and sleeps in between.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::domain::ids::WebhookDeliveryId;
use crate::hub::Hub;
use crate::services::integrations::webhooks::{Responsiveness, Webhooks};
use crate::store::StoreError;
use crate::store::queries::{PendingWebhookDelivery, WebhookDeliveriesToSkip};
use muster_protocol::error_chain;

/// Most deliveries in progress.
const AT_ONCE: usize = 32;
/// Most deliveries in progress to one host, so that a slow host delays only itself. A host that did
/// not answer the last time gets one.
const AT_ONCE_TO_A_HOST: usize = 4;
/// Unresponsive hosts that are remembered. Above this, all are forgotten.
const MAX_SILENT: usize = 1_024;
/// Deliveries that one query returns.
const DUE_AT_ONCE: u64 = 64;
/// Delay before a retry when the database does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Longest sleep. Clocks are adjusted now and then, and a commit that seemed to fail may have
/// succeeded.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

/// Runs until it is dropped. The next server sends deliveries in progress again, as after a
/// refusal.
pub async fn run(webhooks: Webhooks, hub: Arc<Hub>) {
    let mut post = Post::default();
    let mut look_at = Instant::now();
    let mut has_free_slot = false;
    loop {
        // Registered before the query, so that no delivery that becomes due in between is missed.
        let due = hub.wait_webhook_due();
        // A slot that a known delivery takes at once needs no query.
        if !(post.start_ready(&webhooks) && has_free_slot) {
            look_at = Instant::now() + post.fill(&webhooks).await;
        }
        has_free_slot = tokio::select! {
            () = due => false,
            () = webhooks.outbox_written() => false,
            () = tokio::time::sleep_until(look_at) => false,
            () = post.one_ended() => true,
        };
    }
}

/// Deliveries in progress, and those that follow.
#[derive(Default)]
struct Post {
    tasks: JoinSet<Result<Responsiveness, StoreError>>,
    under_way: HashMap<Id, (WebhookDeliveryId, String)>,
    /// Due deliveries to hosts without a free slot.
    ready: VecDeque<PendingWebhookDelivery>,
    /// Hosts that did not answer the last time.
    silent: HashSet<String>,
}

impl Post {
    /// Starts due deliveries while slots are free. Returns how long there is nothing more to start.
    async fn fill(&mut self, webhooks: &Webhooks) -> Duration {
        match self.try_fill(webhooks).await {
            Ok(sleep) => sleep,
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "failed to read due webhooks; retrying"
                );
                RETRY
            }
        }
    }

    async fn try_fill(&mut self, webhooks: &Webhooks) -> Result<Duration, StoreError> {
        while self.under_way.len() < AT_ONCE {
            let now = webhooks.now();
            let waiting = webhooks.waiting(&self.busy(), DUE_AT_ONCE).await?;
            let (due, later): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|waiting| waiting.due_at <= now);
            if due.is_empty() {
                let sleep = later.first().map(|next| next.due_at.ms_since(now));
                return Ok(sleep.map_or(LONGEST_SLEEP, |ms| {
                    Duration::from_millis(ms).clamp(Duration::from_millis(1), LONGEST_SLEEP)
                }));
            }
            self.ready.extend(due);
            self.start_ready(webhooks);
        }
        Ok(LONGEST_SLEEP)
    }

    /// Starts known due deliveries while slots are free. True if it started any.
    fn start_ready(&mut self, webhooks: &Webhooks) -> bool {
        let before = self.ready.len();
        let mut kept = VecDeque::with_capacity(before);
        while let Some(next) = self.ready.pop_front() {
            if self.under_way.len() >= AT_ONCE || self.is_full(&next.host) {
                kept.push_back(next);
                continue;
            }
            let (webhooks, id) = (webhooks.clone(), next.id);
            let task = self.tasks.spawn(async move {
                let done = webhooks.attempt(id).await;
                if done.is_err() {
                    // Keep the slot for a moment. The delivery is still due, and without a delay it
                    // would be retried in a tight loop.
                    tokio::time::sleep(RETRY).await;
                }
                done
            });
            self.under_way.insert(task.id(), (id, next.host));
        }
        self.ready = kept;
        self.ready.len() < before
    }

    fn is_full(&self, host: &str) -> bool {
        let slots = if self.silent.contains(host) { 1 } else { AT_ONCE_TO_A_HOST };
        self.under_way.values().filter(|(_, other)| other == host).count() >= slots
    }

    /// What the next query skips: deliveries in progress or ready, and hosts without a free slot.
    fn busy(&self) -> WebhookDeliveriesToSkip {
        let mut ids: Vec<_> = self.under_way.values().map(|(id, _)| *id).collect();
        let mut hosts: Vec<String> = Vec::new();
        for (_, host) in self.under_way.values() {
            if !hosts.contains(host) && self.is_full(host) {
                hosts.push(host.clone());
            }
        }
        ids.extend(
            self.ready.iter().filter(|next| !hosts.contains(&next.host)).map(|next| next.id),
        );
        WebhookDeliveriesToSkip { ids, hosts }
    }

    /// Waits until a slot is free.
    async fn one_ended(&mut self) {
        let (id, done) = match self.tasks.join_next_with_id().await {
            // No delivery is in progress.
            None => return std::future::pending().await,
            Some(Ok((id, done))) => (id, done.map_err(|error| error_chain(&error))),
            Some(Err(error)) => (error.id(), Err(error.to_string())),
        };
        let Some((_, host)) = self.under_way.remove(&id) else { return };
        match done {
            Ok(Responsiveness::Responsive) => {
                self.silent.remove(&host);
            }
            Ok(Responsiveness::Unresponsive) => {
                if self.silent.len() >= MAX_SILENT {
                    self.silent.clear();
                }
                self.silent.insert(host);
            }
            Err(error) => tracing::warn!(error, "failed to send a webhook; retrying"),
        }
    }
}
