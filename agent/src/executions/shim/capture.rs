//! Reads the output of a child and passes it to the recorder, masked if the run has secrets.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use muster_protocol::frame::ExecuteResult;
use muster_protocol::frame::output::Stream;

use super::mask::{Masker, Masks};
use super::recorder::Recorder;
use super::rehearsal::OutputWatch;

/// Reads from one pipe before other events are handled.
const READS_PER_TURN: usize = 16;
/// How often it looks for space while output of a service waits for it.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);
/// Size of one read that has to be masked, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// The result of reading a pipe for a while.
pub struct ReadProgress {
    pub has_read: bool,
    pub may_have_more: bool,
}

/// Captures output. Offsets, counts and the hash refer to the masked output that is stored.
pub struct OutputCapture {
    recorder: Recorder,
    /// Absent without secrets: output is then read straight into the recorder's buffer.
    maskers: Option<StreamMaskers>,
    /// Of a rehearsal.
    watch: Option<OutputWatch>,
    /// When it last looked for space for output that waits.
    looked_at: Option<Instant>,
}

struct StreamMaskers {
    stdout: Masker,
    stderr: Masker,
    read: Box<[u8]>,
}

impl StreamMaskers {
    fn of(&mut self, stream: Stream) -> (&mut Masker, &mut [u8]) {
        let masker = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        (masker, &mut self.read)
    }
}

impl OutputCapture {
    pub fn new(recorder: Recorder, masks: Option<Rc<Masks>>) -> Self {
        let maskers = masks.map(|masks| StreamMaskers {
            stdout: Masker::new(Rc::clone(&masks)),
            stderr: Masker::new(masks),
            read: vec![0; READ_BYTES].into_boxed_slice(),
        });
        Self { recorder, maskers, watch: None, looked_at: None }
    }

    /// Notices dummy secrets in the output, for a rehearsal.
    pub fn watched_by(self, watch: Option<OutputWatch>) -> Self {
        Self { watch, ..self }
    }

    /// Reads the available output, up to a limit. A pipe that has ended is closed.
    pub fn read<Pipe: io::Read>(
        &mut self,
        pipe: &mut Option<Pipe>,
        stream: Stream,
    ) -> ReadProgress {
        let mut progress = ReadProgress { has_read: false, may_have_more: false };
        for _ in 0..READS_PER_TURN {
            let Some(open) = pipe else { return progress };
            match self.read_once(open, stream) {
                Ok(0) => *pipe = None,
                Ok(_) => progress.has_read = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return progress,
                Err(_) => *pipe = None,
            }
            if pipe.is_none() {
                self.finish_stream(stream);
            }
        }
        progress.may_have_more = pipe.is_some();
        progress
    }

    fn read_once(&mut self, pipe: &mut impl io::Read, stream: Stream) -> io::Result<usize> {
        let recorder = &mut self.recorder;
        match &mut self.maskers {
            None => {
                let read = pipe.read(recorder.buffer_for(stream))?;
                recorder.record(read);
                Ok(read)
            }
            Some(maskers) => {
                let (masker, buffer) = maskers.of(stream);
                let read = pipe.read(buffer)?;
                if let Some(watch) = &mut self.watch {
                    watch.push(stream, &buffer[..read]);
                }
                masker.push(&buffer[..read], &mut |bytes| recorder.record_bytes(stream, bytes));
                Ok(read)
            }
        }
    }

    /// The stream has ended: bytes that were held back are not part of a secret.
    fn finish_stream(&mut self, stream: Stream) {
        if let Some(maskers) = &mut self.maskers {
            let recorder = &mut self.recorder;
            maskers.of(stream).0.finish(&mut |bytes| recorder.record_bytes(stream, bytes));
        }
    }

    /// How much output is stored, once everything that was read so far is: the next byte belongs to what is
    /// started next.
    pub fn stored_bytes(&mut self) -> u64 {
        self.finish_stream(Stream::Stdout);
        self.finish_stream(Stream::Stderr);
        self.recorder.flush();
        self.recorder.stored_bytes()
    }

    /// See [`Recorder::flush`].
    pub fn flush(&mut self) {
        self.recorder.flush();
    }

    /// Stores output that waited for space, if it is time to look. True if it stored some.
    pub fn store_waiting(&mut self) -> bool {
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= WAIT_INTERVAL);
        if !self.recorder.is_waiting() || !is_due {
            return false;
        }
        self.looked_at = Some(Instant::now());
        self.recorder.store_waiting()
    }

    /// When to look for space again; `None` if nothing waits for it.
    pub fn look_in(&self) -> Option<Duration> {
        let elapsed = self.looked_at.map_or(WAIT_INTERVAL, |at| at.elapsed());
        self.recorder.is_waiting().then(|| WAIT_INTERVAL.saturating_sub(elapsed))
    }

    /// See [`Recorder::mark_incomplete`].
    pub fn mark_incomplete(&mut self) {
        self.recorder.mark_incomplete();
    }

    /// Makes the output durable and returns its statistics.
    pub fn finish(mut self, duration_ms: u64) -> ExecuteResult {
        self.finish_stream(Stream::Stdout);
        self.finish_stream(Stream::Stderr);
        let rehearsal = self.watch.take().map(OutputWatch::finish);
        ExecuteResult { rehearsal, ..self.recorder.finish(duration_ms) }
    }
}
