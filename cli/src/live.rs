//! Live resources of the server, followed across whatever interrupts them.
//!
//! Goes on behind the last event that was seen, so that none is lost or repeated. Knows nothing of
//! what the events mean.

use std::time::{Duration, Instant};

use muster_protocol::backoff::Delays;
use reqwest::{Method, Response};

use crate::api::{Api, delay_after};
use crate::error::CliError;
use crate::output::note;
use crate::server_events::{EventReader, ServerEvent};

/// The server gives a sign of life every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// For how long a server that can't be reached is tried again.
const PATIENCE: Duration = Duration::from_secs(300);

/// A live resource.
#[derive(Debug)]
pub struct Live {
    api: Api,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    last_id: Option<String>,
    /// True if an answer that ends has said all.
    is_finite: bool,
    open: Option<(Response, EventReader)>,
    delays: Delays,
    wait_until: Option<tokio::time::Instant>,
    failing_since: Option<Instant>,
}

impl Live {
    /// Asks for nothing yet.
    pub fn new(api: &Api, path: &[&str], query: Vec<(&'static str, String)>) -> Self {
        Self {
            api: api.clone(),
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query,
            last_id: None,
            is_finite: false,
            open: None,
            delays: Delays::for_reconnect(),
            wait_until: None,
            failing_since: None,
        }
    }

    /// An answer that ends as it should is the end.
    pub fn finite(self) -> Self {
        Self { is_finite: true, ..self }
    }

    /// The next event; `None` after the end of a finite resource. May be given up at any time
    /// without losing an event.
    ///
    /// # Errors
    /// The API's errors, passing ones after 5 minutes.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, CliError> {
        loop {
            if let Some(until) = self.wait_until {
                tokio::time::sleep_until(until).await;
                self.wait_until = None;
            }
            match self.step().await {
                Ok(Some(event)) => {
                    self.last_id = event.id.clone().or(self.last_id.take());
                    self.failing_since = None;
                    self.delays.reset();
                    return Ok(Some(event));
                }
                Ok(None) if self.is_finite => return Ok(None),
                // The server has ended it; it may be going, and come back.
                Ok(None) => {
                    self.open = None;
                    let delay = self.delays.next_delay();
                    self.wait(delay);
                }
                Err(error) if error.is_passing() => self.bear(error)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&mut self, delay: Duration) {
        self.wait_until = Some(tokio::time::Instant::now() + delay);
    }

    fn bear(&mut self, error: CliError) -> Result<(), CliError> {
        self.open = None;
        let since = *self.failing_since.get_or_insert_with(|| {
            note(&format!("{error}; trying again"));
            Instant::now()
        });
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        let delay = delay_after(&error, &mut self.delays);
        self.wait(delay);
        Ok(())
    }

    /// One event, or the end of the answer.
    async fn step(&mut self) -> Result<Option<ServerEvent>, CliError> {
        if self.open.is_none() {
            let path: Vec<_> = self.path.iter().map(String::as_str).collect();
            let mut request = self.api.request(Method::GET, &path).query(&self.query);
            if let Some(id) = &self.last_id {
                request = request.header("last-event-id", id);
            }
            self.open = Some((self.api.send_live(request).await?, EventReader::default()));
        }
        let Some((response, reader)) = &mut self.open else { return Ok(None) };
        loop {
            let event = reader.next();
            if let Some(event) =
                event.map_err(|_| CliError::Answer("an event without an end".into()))?
            {
                return Ok(Some(event));
            }
            let Ok(chunk) = tokio::time::timeout(SILENCE, response.chunk()).await else {
                return Err(self.api.silent());
            };
            match chunk.map_err(|error| self.api.interrupted(&error))? {
                Some(chunk) => reader.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}
