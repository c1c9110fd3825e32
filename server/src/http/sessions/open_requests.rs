//! The requests of one session over HTTP that are being processed: at most two.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_protocol::frame::exchange::MAX_OPEN_REQUESTS;
use tokio::sync::Notify;

use crate::http::problem::{ApiResult, Problem};

/// Requests by sequence.
#[derive(Debug, Default)]
pub(super) struct OpenRequests(Mutex<Vec<OpenEntry>>);

#[derive(Debug)]
struct OpenEntry {
    sequence: u64,
    repeated: Arc<Notify>,
}

/// A request that is being processed; counted until it is dropped.
#[derive(Debug)]
pub(super) struct OpenRequest<'a> {
    requests: &'a OpenRequests,
    repeated: Arc<Notify>,
}

impl OpenRequests {
    /// Admits a request before its frames are read. `next`: the next sequence to process.
    ///
    /// A repetition takes the place of the request that it repeats: an agent repeats what it has no
    /// answer to, so no client waits for the older one.
    ///
    /// # Errors
    /// A problem if the sequence is neither the next one nor beside it, or if two other requests are
    /// being processed.
    pub(super) fn enter(&self, sequence: u64, next: u64) -> ApiResult<OpenRequest<'_>> {
        if sequence.saturating_add(1) < next || sequence > next.saturating_add(1) {
            return Err(Problem::unknown_session());
        }
        let repeated = Arc::new(Notify::new());
        let mut entries = self.entries();
        let count = entries.len();
        match entries.iter_mut().find(|entry| entry.sequence == sequence) {
            Some(entry) => {
                entry.repeated.notify_one();
                entry.repeated = Arc::clone(&repeated);
            }
            None if count < MAX_OPEN_REQUESTS => {
                entries.push(OpenEntry { sequence, repeated: Arc::clone(&repeated) });
            }
            None => {
                return Err(Problem::busy("two requests of this session are open; wait for one"));
            }
        }
        drop(entries);
        Ok(OpenRequest { requests: self, repeated })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<OpenEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenRequest<'_> {
    /// Waits until a repetition takes the place of this request.
    pub(super) async fn repeated(&self) {
        self.repeated.notified().await;
    }

    /// True if another request of the session is being processed.
    pub(super) fn has_other(&self) -> bool {
        self.requests.entries().len() > 1
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        // A request that was repeated has no entry any more.
        self.requests.entries().retain(|entry| !Arc::ptr_eq(&entry.repeated, &self.repeated));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn third_request_is_refused_until_one_has_ended() {
        let requests = OpenRequests::default();
        let first = requests.enter(4, 4).expect("none is open");
        let _second = requests.enter(5, 4).expect("one is open");
        assert!(requests.enter(3, 4).is_err());
        drop(first);
        assert!(requests.enter(3, 4).is_ok());
    }

    #[tokio::test]
    async fn repetition_takes_the_place_of_the_older_request() {
        let requests = OpenRequests::default();
        let older = requests.enter(4, 4).expect("none is open");
        let _other = requests.enter(5, 4).expect("one is open");
        let newer = requests.enter(4, 4).expect("a repetition");
        assert!(older.repeated().now_or_never().is_some());
        assert!(newer.repeated().now_or_never().is_none());
        drop(older);
        assert!(newer.has_other() && requests.enter(3, 4).is_err(), "the newer one counts");
    }

    #[test]
    fn only_the_next_sequence_and_its_neighbours_are_admitted() {
        let requests = OpenRequests::default();
        for (sequence, is_admitted) in [(2, false), (3, true), (4, true), (5, true), (6, false)] {
            assert_eq!(requests.enter(sequence, 4).is_ok(), is_admitted, "{sequence}");
        }
        assert!(requests.enter(0, 0).is_ok() && requests.enter(1, 0).is_ok());
        assert!(requests.enter(u64::MAX, 4).is_err());
    }
}
