//! The subcommands of `muster-agent`, except the shim and the download of releases.
//!
//! `run` is the agent itself. The others work beside it on the same state directory and open no
//! session, except `deregister`.

pub mod deregister;
pub mod discard_results;
pub mod doctor;
pub mod end_executions;
pub mod explain;
pub mod facts;
pub mod open_executions;
pub mod request_update;
pub mod run;
pub mod status;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::platform;

/// The owner of the state directory, if this process is root and the owner is another user: the
/// agent could not read files that root writes there. `None` also if the owner can't be read.
fn other_owner(state_dir: &Path) -> Option<String> {
    let owner = std::fs::metadata(state_dir).ok()?.uid();
    (platform::is_root() && owner != 0).then(|| platform::user_name(owner))
}

/// Why the state directory could not be read. The messages are shown to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("not permitted to read {}; run this as root or as the agent's own user", .0.display())]
    Denied(PathBuf),
    #[error("failed to read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl InspectError {
    fn of(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| match source.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Denied(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
