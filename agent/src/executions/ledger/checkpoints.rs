//! Checkpoints of an output file, written now and then by its writer, so that readers find an
//! offset without reading the whole file.
//!
//! Checkpoints are only an aid: they are never synced, a checkpoint that does not fit is skipped,
//! and without checkpoints the file is read from its start.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes of the output file between two checkpoints.
pub const EVERY_BYTES: u64 = 1024 * 1024;
const MARK_BYTES: usize = 32;
/// Checkpoints at the end of the file that are looked at first.
const RECENT: u64 = 2048;
/// Makes sure that zeros or the content of another file are not a valid checkpoint.
const SALT: u64 = 0x6d75_7374_6572_0001;

/// The start of a record and the amount of payload before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Position in the file, headers included.
    pub position: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

impl Checkpoint {
    /// Payload of both streams before the checkpoint.
    pub fn payload_bytes(&self) -> u64 {
        self.stdout_bytes.saturating_add(self.stderr_bytes)
    }

    fn check(&self) -> u64 {
        [self.position, self.stdout_bytes, self.stderr_bytes]
            .into_iter()
            .fold(SALT, |sum, number| (sum ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23))
    }

    pub(crate) fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        let numbers = [self.position, self.stdout_bytes, self.stderr_bytes, self.check()];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|number| {
            let mut place = [0; 8];
            place.copy_from_slice(number);
            u64::from_be_bytes(place)
        });
        let mut next = || numbers.next();
        let mark = Self { position: next()?, stdout_bytes: next()?, stderr_bytes: next()? };
        (next()? == mark.check()).then_some(mark)
    }
}

/// The file that holds the checkpoints of an output file.
pub fn path_of(output: &Path) -> PathBuf {
    output.with_extension("checkpoints")
}

/// The last checkpoint in the first `file_bytes` of the output file for which `fits` returns true,
/// or the start of the file if there is none.
pub fn last(output: &Path, file_bytes: u64, fits: impl Fn(&Checkpoint) -> bool) -> Checkpoint {
    let fits = |mark: &Checkpoint| mark.position <= file_bytes && fits(mark);
    // What is sent and released is near the end, also of an output that grew for weeks.
    let recent = recent(output).unwrap_or_default();
    last_of(&recent, fits).unwrap_or_else(|| {
        let all = fs::read(path_of(output)).unwrap_or_default();
        last_of(&all, fits).unwrap_or_default()
    })
}

fn last_of(checkpoints: &[u8], fits: impl Fn(&Checkpoint) -> bool) -> Option<Checkpoint> {
    checkpoints
        .chunks_exact(MARK_BYTES)
        .filter_map(Checkpoint::decode)
        .filter(fits)
        .max_by_key(|mark| mark.position)
}

/// The last whole checkpoints of a file.
fn recent(output: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::open(path_of(output))?;
    let whole = file.metadata()?.len() / MARK_BYTES as u64;
    let from = whole.saturating_sub(RECENT);
    let mut bytes = vec![0; (whole - from) as usize * MARK_BYTES];
    file.read_exact_at(&mut bytes, from * MARK_BYTES as u64)?;
    Ok(bytes)
}

/// Writes checkpoints while an output file is written.
#[derive(Debug)]
pub struct CheckpointWriter {
    path: PathBuf,
    file: Option<File>,
    every_bytes: u64,
    next_at: u64,
}

impl CheckpointWriter {
    /// Prepares checkpoints for this output file, about this far apart; small files get none.
    pub fn new(output: &Path, every_bytes: u64) -> Self {
        Self { path: path_of(output), file: None, every_bytes, next_at: every_bytes }
    }

    /// The output file has grown by one record that ends at `mark`.
    pub fn note(&mut self, mark: Checkpoint) {
        if mark.position < self.next_at {
            return;
        }
        self.next_at = mark.position + self.every_bytes;
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            self.file = options.write(true).create_new(true).mode(0o600).open(&self.path).ok();
        }
        let written = self.file.as_mut().map(|file| file.write_all(&mark.encode()));
        if !matches!(written, Some(Ok(()))) {
            // Half a checkpoint would misalign all later ones.
            (self.file, self.next_at) = (None, u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fitting_checkpoint_is_found_and_damaged_ones_are_skipped() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = folder.path().join("output");
        let mut marker = CheckpointWriter::new(&output, EVERY_BYTES);
        let mark = |n: u64| Checkpoint {
            position: n * EVERY_BYTES,
            stdout_bytes: n * 1000,
            stderr_bytes: n * 10,
        };
        marker.note(Checkpoint { position: 10, ..Checkpoint::default() });
        assert!(!path_of(&output).exists(), "small output has no checkpoints");
        for n in 1..=5 {
            marker.note(mark(n));
            marker.note(Checkpoint { position: n * EVERY_BYTES + 1, ..mark(n) });
        }
        let all = u64::MAX;
        assert_eq!(last(&output, all, |_| true), mark(5));
        assert_eq!(last(&output, 3 * EVERY_BYTES, |_| true), mark(3));
        assert_eq!(last(&output, all, |mark| mark.payload_bytes() <= 2020), mark(2));
        assert_eq!(last(&output, all, |mark| mark.payload_bytes() < 1010), Checkpoint::default());
        let mut bytes = fs::read(path_of(&output)).expect("written");
        bytes[4 * MARK_BYTES + 7] ^= 1;
        bytes.extend_from_slice(&[0; MARK_BYTES + 3]);
        fs::write(path_of(&output), bytes).expect("written");
        assert_eq!(last(&output, all, |_| true), mark(4));
    }
}
