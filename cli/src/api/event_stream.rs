//! Server-sent events of one HTTP answer, bounded in size and in silence.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::Response;
use sse_stream::{Sse, SseByteStream};

use super::client::ApiClient;
use crate::error::CliError;

/// Largest event; those of a server are far smaller.
const MAX_EVENT_BYTES: usize = 2 * 1024 * 1024;
/// The server sends at least a comment every 15 seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its type.
    pub name: String,
    /// The id to resume after, if the event has one.
    pub id: Option<String>,
    /// JSON.
    pub data: String,
}

/// The events of one answer.
pub struct EventStream {
    events: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    /// Bytes that were read since the last event.
    unparsed_bytes: Arc<AtomicUsize>,
}

impl EventStream {
    /// The events in the body of `response`.
    pub fn new(api: ApiClient, response: Response) -> Self {
        Self::of_chunks(stream::try_unfold((api, response), |(api, mut response)| async move {
            match tokio::time::timeout(SILENCE_TIMEOUT, response.chunk()).await {
                Err(_) => Err(api.timed_out()),
                Ok(Err(error)) => Err(api.cut_off(&error)),
                Ok(Ok(chunk)) => Ok(chunk.map(|chunk| (chunk, (api, response)))),
            }
        }))
    }

    fn of_chunks(chunks: impl Stream<Item = Result<Bytes, CliError>> + Send + 'static) -> Self {
        let unparsed_bytes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&unparsed_bytes);
        // The parser has no bound of its own: an event without an end would fill the memory.
        let bounded = chunks.map(move |chunk| {
            let chunk = chunk?;
            let unparsed = counter.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len();
            match unparsed > MAX_EVENT_BYTES {
                true => Err(CliError::Answer(format!("an event exceeds {MAX_EVENT_BYTES} bytes"))),
                false => Ok(chunk),
            }
        });
        Self { events: Box::pin(SseByteStream::new(bounded)), unparsed_bytes }
    }

    /// The next event; `None` at the end of the answer. Cancelling the future loses no event.
    ///
    /// # Errors
    /// The connection's errors; [`CliError::Answer`] for an event that is too large or is not UTF-8.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, CliError> {
        while let Some(event) = self.events.next().await {
            let event = event.map_err(reading_error)?;
            self.unparsed_bytes.store(0, Ordering::Relaxed);
            // Blocks without data carry no event.
            if let Some(data) = event.data {
                let name = event.event.unwrap_or_default();
                return Ok(Some(ServerEvent { name, id: event.id, data }));
            }
        }
        Ok(None)
    }
}

/// The error of the chunks below the parser, or the parser's own.
fn reading_error(error: sse_stream::Error) -> CliError {
    match error {
        sse_stream::Error::Body(source) => match source.downcast() {
            Ok(error) => *error,
            Err(source) => CliError::Answer(source.to_string()),
        },
        error => CliError::Answer(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SENT: &str = "event: output\ndata: {\"text\":\"é: \\n\"}\nid: 7\n\n:\n\nevent:result\nid:8\ndata:{}\n\nevent: cut";

    fn read(chunks: &[&[u8]]) -> Result<Vec<ServerEvent>, CliError> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let mut events = EventStream::of_chunks(stream::iter(chunks));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut read = Vec::new();
            while let Some(event) = events.next().await? {
                read.push(event);
            }
            Ok(read)
        })
    }

    fn event(name: &str, id: Option<&str>, data: &str) -> ServerEvent {
        ServerEvent { name: name.into(), id: id.map(str::to_owned), data: data.into() }
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_answer_is_cut_into_chunks(
            cuts in prop::collection::vec(0..SENT.len(), 0..20)
        ) {
            let mut cuts = cuts;
            cuts.extend([0, SENT.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> =
                cuts.windows(2).map(|cut| &SENT.as_bytes()[cut[0]..cut[1]]).collect();
            let expected = vec![
                event("output", Some("7"), "{\"text\":\"é: \\n\"}"),
                event("result", Some("8"), "{}"),
            ];
            prop_assert_eq!(read(&chunks).expect("valid events"), expected);
        }
    }

    #[test]
    fn bare_fields_unknown_fields_crlf_and_several_data_lines_are_understood() {
        let sent =
            b"event: a\r\nid\r\nretry\r\nfoo: bar\r\ndata: 1\r\ndata: 2\r\n\r\ndata\r\rid: 3\n\n";
        let expected = vec![event("a", Some(""), "1\n2"), event("", None, "")];
        assert_eq!(read(&[sent]).expect("valid events"), expected);
        assert_eq!(read(&sent.chunks(1).collect::<Vec<_>>()).expect("valid events"), expected);
    }

    #[test]
    fn event_without_an_end_is_refused_and_many_small_events_are_not() {
        let endless = vec![b'x'; MAX_EVENT_BYTES / 2];
        let error = read(&[&endless, &endless, b"x"]).expect_err("too large");
        assert!(error.to_string().contains("an event exceeds"), "{error}");
        let small = [b"data: ".as_slice(), &endless[..MAX_EVENT_BYTES / 2 - 8], b"\n\n"].concat();
        assert_eq!(read(&[&small[..]; 5]).expect("small events").len(), 5);
    }
}
