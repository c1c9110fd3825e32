//! Sends webhooks when they are due: so many at once, so many to one host, and asleep between.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::domain::ids::DeliveryId;
use crate::hub::Hub;
use crate::services::error::chain;
use crate::services::integrations::webhooks::{Contact, Webhooks};
use crate::store::StoreError;
use crate::store::queries::{Busy, Waiting};

/// Messages under way.
const AT_ONCE: usize = 32;
/// Messages under way to one host: a slow one holds up itself alone. To one that did not answer the
/// last time, one.
const AT_ONCE_TO_A_HOST: usize = 4;
/// Silent hosts that are remembered; beyond, all are forgotten.
const MAX_SILENT: usize = 1_024;
/// Deliveries that one look takes.
const LOOK: u64 = 64;
/// Between two tries when the database does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// The longest sleep: clocks are set now and then, and a commit without an answer may have stood.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

/// Runs until it is dropped; what was under way then is sent again by the next server, as after a
/// refusal.
pub async fn run(webhooks: Webhooks, hub: Arc<Hub>) {
    let mut post = Post::default();
    let mut look_at = Instant::now();
    let mut is_place_free = false;
    loop {
        // Asked for before looking, so that nothing that becomes due meanwhile is slept through.
        let due = hub.wait_webhook_due();
        // A place that is taken at once by what is known to be due needs no look.
        if !(post.start_ready(&webhooks) && is_place_free) {
            look_at = Instant::now() + post.fill(&webhooks).await;
        }
        is_place_free = tokio::select! {
            () = due => false,
            () = tokio::time::sleep_until(look_at) => false,
            () = post.one_ended() => true,
        };
    }
}

/// What is under way, and what goes next.
#[derive(Default)]
struct Post {
    tasks: JoinSet<Result<Contact, StoreError>>,
    under_way: HashMap<Id, (DeliveryId, String)>,
    /// Due, and of hosts that had no place free: at most a look for each of those.
    ready: VecDeque<Waiting>,
    /// Hosts that did not answer the last time.
    silent: HashSet<String>,
}

impl Post {
    /// Starts what is due and has a place; how long there is nothing more to start.
    async fn fill(&mut self, webhooks: &Webhooks) -> Duration {
        match self.try_fill(webhooks).await {
            Ok(sleep) => sleep,
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to look for webhooks; trying again");
                RETRY
            }
        }
    }

    async fn try_fill(&mut self, webhooks: &Webhooks) -> Result<Duration, StoreError> {
        while self.under_way.len() < AT_ONCE {
            let now = webhooks.now();
            let waiting = webhooks.waiting(&self.busy(), LOOK).await?;
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

    /// Starts what is known to be due and has a place now; whether there was any.
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
                    // Its place stays taken for a moment, or it would be tried in circles: what could
                    // not be begun is still due.
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
        let places = if self.silent.contains(host) { 1 } else { AT_ONCE_TO_A_HOST };
        self.under_way.values().filter(|(_, other)| other == host).count() >= places
    }

    /// What the next look passes over: what is under way or ready, and hosts without a place.
    fn busy(&self) -> Busy {
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
        Busy { ids, hosts }
    }

    /// Waits until a place is free.
    async fn one_ended(&mut self) {
        let (id, done) = match self.tasks.join_next_with_id().await {
            // Nothing is under way.
            None => return std::future::pending().await,
            Some(Ok((id, done))) => (id, done.map_err(|error| chain(&error))),
            Some(Err(error)) => (error.id(), Err(error.to_string())),
        };
        let Some((_, host)) = self.under_way.remove(&id) else { return };
        match done {
            Ok(Contact::Answered) => {
                self.silent.remove(&host);
            }
            Ok(Contact::Silent) => {
                if self.silent.len() >= MAX_SILENT {
                    self.silent.clear();
                }
                self.silent.insert(host);
            }
            Err(error) => tracing::warn!(error, "failed to send a webhook; trying again"),
        }
    }
}
