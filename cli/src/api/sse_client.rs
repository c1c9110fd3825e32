//! Follows an event stream of the server across interruptions.
//!
//! Resumes after the last event, so that none is lost or repeated. Knows no event's meaning.

use std::time::{Duration, Instant};

use muster_protocol::program::backoff::Delays;
use reqwest::Method;

use super::client::{ApiClient, delay_after};
use super::event_stream::{EventStream, ServerEvent};
use crate::error::CliError;
use crate::output::printer::print_note;

/// For how long an unreachable server is retried.
const RETRY_LIMIT: Duration = Duration::from_secs(300);

/// A client of one event stream.
pub struct SseClient {
    api: ApiClient,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    last_id: Option<String>,
    /// True if the end of the answer is the end of the events.
    is_finite: bool,
    stream: Option<EventStream>,
    delays: Delays,
    wait_until: Option<tokio::time::Instant>,
    failing_since: Option<Instant>,
}

impl SseClient {
    /// Sends no request yet.
    pub fn new(api: &ApiClient, path: &[&str], query: Vec<(&'static str, String)>) -> Self {
        Self {
            api: api.clone(),
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query,
            last_id: None,
            is_finite: false,
            stream: None,
            delays: Delays::for_reconnect(),
            wait_until: None,
            failing_since: None,
        }
    }

    /// Ends with the answer instead of reconnecting.
    pub fn finite(self) -> Self {
        Self { is_finite: true, ..self }
    }

    /// The next event; `None` after the end of a finite stream. Cancelling the future loses no event.
    ///
    /// # Errors
    /// The API's errors, transient ones after 5 minutes.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, CliError> {
        loop {
            if let Some(until) = self.wait_until {
                tokio::time::sleep_until(until).await;
                self.wait_until = None;
            }
            match self.next_of_answer().await {
                Ok(Some(event)) => {
                    self.last_id = event.id.clone().or(self.last_id.take());
                    self.failing_since = None;
                    self.delays.reset();
                    return Ok(Some(event));
                }
                Ok(None) if self.is_finite => return Ok(None),
                // The server ended the answer; it may be restarting.
                Ok(None) => {
                    self.stream = None;
                    let delay = self.delays.next_delay();
                    self.wait(delay);
                }
                Err(error) if error.is_transient() => self.schedule_retry(error)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&mut self, delay: Duration) {
        self.wait_until = Some(tokio::time::Instant::now() + delay);
    }

    fn schedule_retry(&mut self, error: CliError) -> Result<(), CliError> {
        self.stream = None;
        let since = *self.failing_since.get_or_insert_with(|| {
            print_note(&format!("{error}; trying again"));
            Instant::now()
        });
        if since.elapsed() > RETRY_LIMIT {
            return Err(error);
        }
        let delay = delay_after(&error, &mut self.delays);
        self.wait(delay);
        Ok(())
    }

    /// The next event of the current answer; `None` at its end.
    async fn next_of_answer(&mut self) -> Result<Option<ServerEvent>, CliError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let path: Vec<_> = self.path.iter().map(String::as_str).collect();
                let mut request = self.api.request(Method::GET, &path).query(&self.query);
                if let Some(id) = &self.last_id {
                    request = request.header("last-event-id", id);
                }
                let response = self.api.send_stream(request).await?;
                self.stream.insert(EventStream::new(self.api.clone(), response))
            }
        };
        stream.next().await
    }
}
