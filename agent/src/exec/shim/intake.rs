//! What a child prints, on its way to the recorder: masked, if the run has secrets.

use std::io;
use std::rc::Rc;

use muster_protocol::frame::ExecuteResult;
use muster_protocol::frame::output::Stream;

use super::mask::{Masker, Masks};
use super::recorder::Recorder;

/// Reads of one pipe before the other things get their turn.
const READS_PER_TURN: usize = 16;
/// Bytes of one read that has to be masked.
const READ_BYTES: usize = 64 * 1024;

/// What came of reading a pipe for a while.
pub struct ReadTurn {
    pub has_read: bool,
    pub may_have_more: bool,
}

/// Takes output in. Offsets, counts and the hash are of what is kept: of masked output.
pub struct Intake {
    recorder: Recorder,
    /// Absent without secrets: what is read then goes straight into the recorder's buffer.
    masking: Option<Masking>,
}

struct Masking {
    stdout: Masker,
    stderr: Masker,
    read: Box<[u8]>,
}

impl Masking {
    fn of(&mut self, stream: Stream) -> (&mut Masker, &mut [u8]) {
        let masker = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        (masker, &mut self.read)
    }
}

impl Intake {
    pub fn new(recorder: Recorder, masks: Option<Rc<Masks>>) -> Self {
        let masking = masks.map(|masks| Masking {
            stdout: Masker::new(Rc::clone(&masks)),
            stderr: Masker::new(masks),
            read: vec![0; READ_BYTES].into_boxed_slice(),
        });
        Self { recorder, masking }
    }

    /// Reads what there is, up to a bound. A pipe that has ended is dropped.
    pub fn read<Pipe: io::Read>(&mut self, pipe: &mut Option<Pipe>, stream: Stream) -> ReadTurn {
        let mut turn = ReadTurn { has_read: false, may_have_more: false };
        for _ in 0..READS_PER_TURN {
            let Some(open) = pipe else { return turn };
            match self.read_once(open, stream) {
                Ok(0) => *pipe = None,
                Ok(_) => turn.has_read = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return turn,
                Err(_) => *pipe = None,
            }
            if pipe.is_none() {
                self.end(stream);
            }
        }
        turn.may_have_more = pipe.is_some();
        turn
    }

    fn read_once(&mut self, pipe: &mut impl io::Read, stream: Stream) -> io::Result<usize> {
        let recorder = &mut self.recorder;
        match &mut self.masking {
            None => {
                let read = pipe.read(recorder.space(stream))?;
                recorder.record(read);
                Ok(read)
            }
            Some(masking) => {
                let (masker, buffer) = masking.of(stream);
                let read = pipe.read(buffer)?;
                masker.push(&buffer[..read], &mut |bytes| recorder.keep(stream, bytes));
                Ok(read)
            }
        }
    }

    /// Nothing more comes: what was held back is no secret.
    fn end(&mut self, stream: Stream) {
        if let Some(masking) = &mut self.masking {
            let recorder = &mut self.recorder;
            masking.of(stream).0.finish(&mut |bytes| recorder.keep(stream, bytes));
        }
    }

    /// See [`Recorder::flush`].
    pub fn flush(&mut self) {
        self.recorder.flush();
    }

    /// See [`Recorder::note_unread`].
    pub fn note_unread(&mut self) {
        self.recorder.note_unread();
    }

    /// Makes the output durable and says what it is.
    pub fn finish(mut self, duration_ms: u64) -> ExecuteResult {
        self.end(Stream::Stdout);
        self.end(Stream::Stderr);
        self.recorder.finish(duration_ms)
    }
}
