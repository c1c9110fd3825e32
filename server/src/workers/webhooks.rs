//! Sends webhooks when they are due: so many at once, so many to one host, and asleep between.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use crate::domain::ids::DeliveryId;
use crate::hub::Hub;
use crate::services::error::chain;
use crate::services::webhooks::Webhooks;
use crate::store::StoreError;
use crate::store::queries::{Busy, Waiting};

/// Messages under way.
const AT_ONCE: usize = 32;
/// Messages under way to one host: a slow one holds up itself alone.
const AT_ONCE_TO_A_HOST: usize = 4;
/// Deliveries that one look takes.
const LOOK: u64 = 64;
/// Between two tries when the database does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// The longest sleep: clocks are set now and then, and a commit without an answer may have stood.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

/// Runs until it is dropped; what was under way then is sent again by the next server.
pub async fn run(webhooks: Webhooks, hub: std::sync::Arc<Hub>) {
    let mut post = Post::default();
    loop {
        // Asked for before looking, so that nothing that becomes due meanwhile is slept through.
        let due = hub.until_webhook_due();
        let sleep = match post.fill(&webhooks).await {
            Ok(sleep) => sleep,
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to look for webhooks; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = due => {}
            () = tokio::time::sleep(sleep) => {}
            () = post.one_ended() => {}
        }
    }
}

/// What is under way, and what goes next.
#[derive(Default)]
struct Post {
    tasks: JoinSet<Result<(), StoreError>>,
    under_way: HashMap<Id, (DeliveryId, String)>,
    /// Due, and of hosts that had no place free: at most a look for each of those.
    ready: VecDeque<Waiting>,
}

impl Post {
    /// Starts what is due and has a place; how long there is nothing more to start.
    async fn fill(&mut self, webhooks: &Webhooks) -> Result<Duration, StoreError> {
        loop {
            self.start_ready(webhooks);
            if self.under_way.len() >= AT_ONCE {
                return Ok(LONGEST_SLEEP);
            }
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
        }
    }

    fn start_ready(&mut self, webhooks: &Webhooks) {
        let mut kept = VecDeque::with_capacity(self.ready.len());
        while let Some(next) = self.ready.pop_front() {
            if self.under_way.len() >= AT_ONCE || self.is_full(&next.host) {
                kept.push_back(next);
                continue;
            }
            let (webhooks, id) = (webhooks.clone(), next.id);
            let task = self.tasks.spawn(async move {
                let done = webhooks.attempt(id).await;
                if done.is_err() {
                    // Its place stays taken for a moment, or it would be tried in circles.
                    tokio::time::sleep(RETRY).await;
                }
                done
            });
            self.under_way.insert(task.id(), (id, next.host));
        }
        self.ready = kept;
    }

    fn is_full(&self, host: &str) -> bool {
        self.under_way.values().filter(|(_, other)| other == host).count() >= AT_ONCE_TO_A_HOST
    }

    /// What the next look passes over: what is under way or ready, and hosts without a place.
    fn busy(&self) -> Busy {
        let mut ids: Vec<_> = self.under_way.values().map(|(id, _)| *id).collect();
        let mut hosts: Vec<String> = Vec::new();
        let under_way = self.under_way.values().map(|(_, host)| host);
        for host in under_way.chain(self.ready.iter().map(|waiting| &waiting.host)) {
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
        let (id, error) = match self.tasks.join_next_with_id().await {
            // Nothing is under way.
            None => return std::future::pending().await,
            Some(Ok((id, done))) => (id, done.err().map(|error| chain(&error))),
            Some(Err(error)) => (error.id(), Some(error.to_string())),
        };
        self.under_way.remove(&id);
        if let Some(error) = error {
            tracing::warn!(error, "failed to send a webhook; trying again");
        }
    }
}
