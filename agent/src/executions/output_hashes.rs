//! SHA-256 of the recorded output: of both streams in the order read, and of each stream.

use data_encoding::HEXLOWER;
use muster_protocol::frame::ExecuteResult;
use muster_protocol::frame::output::Stream;
use ring::digest::{Context, SHA256};

/// Running hashes of an execution's output. While only one stream has output, one hash serves
/// both.
pub struct OutputHashes {
    both: Context,
    /// The stream of all output so far.
    only: Option<Stream>,
    /// Of stdout and stderr, once both have output.
    streams: Option<(Context, Context)>,
}

impl Default for OutputHashes {
    fn default() -> Self {
        Self { both: Context::new(&SHA256), only: None, streams: None }
    }
}

impl OutputHashes {
    /// Adds recorded payload.
    pub fn update(&mut self, stream: Stream, payload: &[u8]) {
        if self.streams.is_none() && *self.only.get_or_insert(stream) != stream {
            let (before, empty) = (self.both.clone(), Context::new(&SHA256));
            self.streams = Some(match stream {
                Stream::Stdout => (empty, before),
                Stream::Stderr => (before, empty),
            });
        }
        match (&mut self.streams, stream) {
            (None, _) => {}
            (Some((stdout, _)), Stream::Stdout) => stdout.update(payload),
            (Some((_, stderr)), Stream::Stderr) => stderr.update(payload),
        }
        self.both.update(payload);
    }

    /// Adds the hashes to a result.
    #[must_use]
    pub fn into_result(self, result: ExecuteResult) -> ExecuteResult {
        let (stdout, stderr) = match (self.streams, self.only) {
            (Some(streams), _) => streams,
            (None, Some(Stream::Stderr)) => (Context::new(&SHA256), self.both.clone()),
            (None, _) => (self.both.clone(), Context::new(&SHA256)),
        };
        let hex = |context: Context| Some(HEXLOWER.encode(context.finish().as_ref()));
        ExecuteResult {
            output_sha256: hex(self.both),
            stdout_sha256: hex(stdout),
            stderr_sha256: hex(stderr),
            ..result
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executions::output_reader::Recorded;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_stream_has_the_hash_of_its_own_bytes(
            records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..9)), 0..9),
        ) {
            let mut hashes = OutputHashes::default();
            let (mut both, mut stdout, mut stderr) = (vec![], vec![], vec![]);
            for (is_stderr, payload) in &records {
                let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
                hashes.update(stream, payload);
                both.extend(payload);
                if *is_stderr { stderr.extend(payload) } else { stdout.extend(payload) }
            }
            let result = hashes.into_result(Recorded::default().result_of_lost_execution());
            let of = |bytes: &[u8]| Some(HEXLOWER.encode(ring::digest::digest(&SHA256, bytes).as_ref()));
            prop_assert_eq!(result.output_sha256, of(&both));
            prop_assert_eq!(result.stdout_sha256, of(&stdout));
            prop_assert_eq!(result.stderr_sha256, of(&stderr));
        }
    }
}
