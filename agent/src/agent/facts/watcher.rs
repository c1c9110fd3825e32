//! Keeps the facts of the host up to date while the agent runs.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::time::Duration;

use chrono::DateTime;
use muster_protocol::facts::{FactReport, FactValue};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::executions::{start_fact_collector, watch_child};
use crate::platform::{self, Signal};
use crate::policy::file_fingerprint::FileFingerprint;
use crate::storage::layout::StateDir;

/// Time between two collections without a change of files.
const COLLECT_INTERVAL: Duration = Duration::from_secs(300);
/// Least time between two collections: a program may change files of `facts.d` itself.
const COLLECT_PAUSE: Duration = Duration::from_secs(5);
/// How long a collection may take: longer than all programs.
const COLLECT_TIME: Duration = Duration::from_secs(90);
/// How long a collector may take to end what it has started.
const COLLECTOR_END_TIME: Duration = Duration::from_secs(15);
/// Most bytes that a collector may print; escapes can make a text longer.
const MAX_REPORT_BYTES: usize = 512 * 1024;
/// A file is often changed in several steps.
const CHANGE_TIME: Duration = Duration::from_millis(200);
/// Time between two looks at the files where the system can't tell of changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Files whose change is noticed.
const MAX_WATCHED: usize = 128;
/// The system derives the time of boot from its clock, which is corrected while it runs.
const SAME_BOOT: Duration = Duration::from_secs(60);

/// Collects now, when files have changed, and from time to time. The receiver has the newest report.
/// `program` is started as the collector.
pub fn watch(program: PathBuf, state: StateDir) -> watch::Receiver<Option<FactReport>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        while !sender.is_closed() {
            let pause = Instant::now() + COLLECT_PAUSE;
            // From before the collection: what changes during it counts.
            let files = SeenFiles::now(&state);
            match collect(&program, state.path()).await {
                Ok(report) => {
                    sender.send_if_modified(|known: &mut Option<FactReport>| {
                        let report = steady(known.as_ref(), report);
                        let is_new = known.as_ref() != Some(&report);
                        *known = Some(report);
                        is_new
                    });
                }
                Err(error) => tracing::warn!(%error, "failed to collect the facts of this host"),
            }
            let change = async {
                files.changed().await;
                sleep_until(pause).await;
            };
            tokio::select! {
                // After the time, or after a change.
                _ = timeout(COLLECT_INTERVAL, change) => {}
                () = sender.closed() => {}
            }
        }
    });
    receiver
}

/// Runs the collector.
async fn collect(program: &Path, state: &Path) -> io::Result<FactReport> {
    let mut child = start_fact_collector(program, state)?;
    let pid = child.id();
    let read = match child.stdout.take() {
        Some(stdout) => timeout(COLLECT_TIME, read(stdout)).await,
        None => Ok(Err(io::ErrorKind::BrokenPipe.into())),
    };
    // A collector without standard input ends what it has started, and then itself.
    drop(child.stdin.take());
    let mut ended = Box::pin(watch_child(child).ended());
    if timeout(COLLECTOR_END_TIME, &mut ended).await.is_err() {
        platform::signal_group(pid, Signal::Kill);
        ended.await;
    }
    let bytes = read.unwrap_or_else(|_| Err(io::Error::other("it took too long")))?;
    if bytes.is_empty() {
        return Err(io::Error::other("nothing was printed; `muster-agent facts` shows why"));
    }
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

async fn read(stdout: ChildStdout) -> io::Result<Vec<u8>> {
    let stdout = pipe::Receiver::from_owned_fd(stdout.into())?;
    let mut bytes = Vec::new();
    stdout.take(MAX_REPORT_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    match bytes.len() > MAX_REPORT_BYTES {
        true => Err(io::Error::other("it printed too much")),
        false => Ok(bytes),
    }
}

/// The policy and the files of `facts.d`, as they are at one time.
struct SeenFiles {
    folders: [PathBuf; 2],
    seen: Fingerprints,
    /// Readable after a change of the folders; absent where the system can't tell.
    changes: Option<AsyncFd<File>>,
}

type Fingerprints = Vec<(PathBuf, Option<FileFingerprint>)>;

impl SeenFiles {
    fn now(state: &StateDir) -> Self {
        let folders = [state.custom_facts(), state.path().to_owned()];
        let changes = platform::watch_folders(&folders).and_then(register);
        if let Err(error) = &changes {
            tracing::debug!(%error, "the system does not tell of changed files; looking at them instead");
        }
        Self { seen: fingerprints(&folders), folders, changes: changes.ok() }
    }

    /// Returns when a file has changed.
    async fn changed(&self) {
        loop {
            match &self.changes {
                Some(changes) => {
                    let Ok(mut ready) = changes.readable().await else { return };
                    // What has changed is not asked for: fingerprints say it.
                    while changes.get_ref().read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
                    ready.clear_ready();
                }
                None => sleep(LOOK_INTERVAL).await,
            }
            if fingerprints(&self.folders) != self.seen {
                return sleep(CHANGE_TIME).await;
            }
        }
    }
}

fn register(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: an owned descriptor stays open and unchanged for as long as it is owned.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.map_err(io::Error::from)
}

/// What changes when the policy or a file of `facts.d` does.
fn fingerprints([facts, state]: &[PathBuf; 2]) -> Fingerprints {
    let entries = fs::read_dir(facts).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths.truncate(MAX_WATCHED);
    paths.extend([facts.clone(), StateDir::at(state).policy()]);
    paths.into_iter().map(|path| (path.clone(), FileFingerprint::of(&path))).collect()
}

/// The new report, with the known time of boot if it is the same boot.
fn steady(known: Option<&FactReport>, mut report: FactReport) -> FactReport {
    let at = |value: &FactValue| {
        DateTime::parse_from_rfc3339(value.values().first()?).ok().map(|at| at.timestamp())
    };
    if let Some(before) = known.and_then(|known| known.facts.get("boot_time"))
        && let Some(now) = report.facts.get_mut("boot_time")
        && let (Some(one), Some(two)) = (at(before), at(now))
        && one.abs_diff(two) < SAME_BOOT.as_secs()
    {
        *now = before.clone();
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrected_clock_changes_no_fact() {
        let report = |boot: &str| FactReport {
            facts: [("boot_time".to_owned(), FactValue::One(boot.to_owned()))].into(),
            errors: Vec::new(),
        };
        let known = report("2026-01-01T00:00:00Z");
        assert_eq!(steady(Some(&known), report("2026-01-01T00:00:01Z")), known);
        let other = report("2026-01-01T01:00:00Z");
        assert_eq!(steady(Some(&known), other.clone()), other);
        assert_eq!(steady(None, other.clone()), other);
    }
}
