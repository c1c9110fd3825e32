//! The log on disk, for hosts whose service manager keeps none: the lines of the supervisor and the
//! agent, in a file of bounded size and two older ones. They go to standard error as well.
//!
//! Bounds: 3 files of 10 MiB plus one line each. A line longer than 16 KiB is split. 64 KiB are
//! buffered for a slow disk; lines beyond that are lost.

use std::fs;
use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rolling_file::{BasicRollingFileAppender, RollingConditionBasic};

const FILE_NAME: &str = "muster-agent.log";
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;
const OLDER_FILES: usize = 2;
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Enough for reading and writing lines.
const STACK_BYTES: usize = 64 * 1024;
/// How long to wait for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why there is no log file.
#[derive(Debug, thiserror::Error)]
#[error("failed to open a log in {}", path.display())]
pub struct LogFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The pipe that lines are written to, and the thread that reads it.
#[derive(Debug)]
pub struct LogFile {
    lines: PipeWriter,
    done: Receiver<()>,
}

impl LogFile {
    /// Opens the log in `folder`, which is created if it is missing, and starts the thread.
    ///
    /// # Errors
    /// [`LogFileError`] if the system refuses.
    pub fn open(folder: &Path) -> Result<Self, LogFileError> {
        Self::start(folder).map_err(|source| LogFileError { path: folder.to_owned(), source })
    }

    fn start(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = BasicRollingFileAppender::new_with_buffer_capacity(
            folder.join(FILE_NAME),
            RollingConditionBasic::new().max_size(MAX_FILE_BYTES),
            OLDER_FILES,
            0,
        )?;
        let (reader, lines) = io::pipe()?;
        // If the disk hangs, lines are lost; neither agent nor supervisor waits for it.
        fcntl(&lines, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK))?;
        let (ended, done) = channel();
        thread::Builder::new().name("log".into()).stack_size(STACK_BYTES).spawn(move || {
            collect(reader, file);
            // The receiver may have stopped waiting.
            let _ = ended.send(());
        })?;
        Ok(Self { lines, done })
    }

    /// A writer for the supervisor's own lines.
    ///
    /// # Errors
    /// The system's error.
    pub fn writer(&self) -> io::Result<PipeWriter> {
        self.lines.try_clone()
    }

    /// A writer for the agent's standard error.
    ///
    /// # Errors
    /// The system's error.
    pub fn stdio(&self) -> io::Result<Stdio> {
        self.lines.try_clone().map(Stdio::from)
    }

    /// Waits for the last lines, which are written once all other writers are closed. If an agent
    /// still holds one, waits only briefly.
    pub fn finish(self) {
        drop(self.lines);
        // Lines that are not on disk by now are on standard error.
        let _ = self.done.recv_timeout(LAST_LINES);
    }
}

/// Copies whole lines until every writer is closed. A full disk loses lines but never stops the
/// agent.
fn collect(reader: PipeReader, mut file: BasicRollingFileAppender) {
    let mut reader = BufReader::with_capacity(4096, reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        let _ = io::stderr().write_all(&line);
        let _ = file.write_all(&line).and_then(|()| file.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(folder: &Path) -> Vec<(String, u64)> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let mut sizes: Vec<_> = entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, entry.metadata().unwrap().len())
            })
            .collect();
        sizes.sort();
        sizes
    }

    #[test]
    fn log_is_three_bounded_files_with_the_newest_line_in_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, mut lines) = io::pipe().unwrap();
        let file = BasicRollingFileAppender::new_with_buffer_capacity(
            dir.path().join(FILE_NAME),
            RollingConditionBasic::new().max_size(1000),
            OLDER_FILES,
            0,
        )
        .unwrap();
        let collector = thread::spawn(move || collect(reader, file));
        for number in 0..1000 {
            writeln!(lines, "line {number}").unwrap();
        }
        drop(lines);
        collector.join().unwrap();

        let sizes = sizes(dir.path());
        let names: Vec<_> = sizes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["muster-agent.log", "muster-agent.log.1", "muster-agent.log.2"]);
        assert!(sizes.iter().all(|(_, bytes)| *bytes < 1000 + 10), "{sizes:?}");
        let newest = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        assert!(newest.ends_with("line 999\n"), "{newest}");
    }

    #[test]
    fn log_is_appended_to_and_its_last_line_is_written_before_finish_returns() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["one\n", "two\n"] {
            let log = LogFile::open(&dir.path().join("log")).unwrap();
            log.writer().unwrap().write_all(text.as_bytes()).unwrap();
            log.finish();
        }
        let text = fs::read_to_string(dir.path().join("log").join(FILE_NAME)).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn hanging_disk_does_not_block_writers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // A pipe that is never read behaves like a disk that hangs.
        let mut options = fs::File::options();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, OFlag::O_NONBLOCK.bits());
        let _held = options.read(true).open(&path).unwrap();
        let log = LogFile::open(dir.path()).unwrap();
        let mut writer = log.writer().unwrap();
        let line = [b'x'; 1024];
        let lost = (0..1000).filter(|_| writer.write_all(&line).is_err()).count();
        assert!(lost > 0, "everything was taken: the pipe was large enough for all lines");
    }
}
