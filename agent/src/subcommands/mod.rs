//! What the host's owner asks of an agent from beside it: how it is, to end its executions, to become
//! another version, to take the host out of the fleet.
//!
//! Reads and writes the state directory's files; holds no sessions but the last one.

pub mod deregister;
pub mod doctor;
pub mod end_executions;
pub mod open_executions;
pub mod request_update;
pub mod run;
pub mod status;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::platform;

/// Whose files lie there, if this process is root and they are not: what root writes among them,
/// their agent could not read. `None` also if nobody can tell.
fn other_owner(state_dir: &Path) -> Option<String> {
    let owner = std::fs::metadata(state_dir).ok()?.uid();
    (platform::is_root() && owner != 0).then(|| platform::user_name(owner))
}

/// Why the host could not be looked at. The texts go to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("{} can't be looked into; run this as root, or as the agent's own user", .0.display())]
    Denied(PathBuf),
    #[error("{} can't be looked into", path.display())]
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
