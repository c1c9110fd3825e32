//! Waits for the end of a shim without a thread and without polling.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::holder;
use crate::platform::{self, ProcessStat};
use crate::storage::layout::ExecutionDir;

const THREAD_STACK_BYTES: usize = 64 * 1024;

/// Waits for the end of one shim.
#[derive(Debug)]
pub enum Watch {
    /// Readable once the process has ended.
    Descriptor { process: AsyncFd<OwnedFd>, child: Option<Child> },
    /// The system has no process descriptors: a thread waits.
    Thread(Child),
    /// The shim has ended already.
    Over,
}

/// Watches a shim that this agent process has started.
pub fn watch_child(child: Child) -> Watch {
    let process = platform::open_process(child.id()).and_then(register);
    match process {
        Ok(process) => Watch::Descriptor { process, child: Some(child) },
        Err(error) => {
            tracing::debug!(%error, "no process descriptor available; a thread waits instead");
            Watch::Thread(child)
        }
    }
}

/// Watches the shim that holds an execution's lock and was started by a previous agent process.
/// `None` if the holder has not written its identity yet.
///
/// # Errors
/// The system's error for the descriptor.
pub fn watch_holder(execution: &ExecutionDir) -> io::Result<Option<Watch>> {
    let Some(holder) = holder(execution) else { return Ok(None) };
    let process = match platform::open_process(holder.shim_pid) {
        Ok(process) => process,
        Err(_) if ProcessStat::of(holder.shim_pid).is_none() => return Ok(Some(Watch::Over)),
        Err(error) => return Err(error),
    };
    // Checked after opening: the descriptor now refers to the process that is checked here.
    let is_holder = ProcessStat::of(holder.shim_pid)
        .is_some_and(|process| process.start_ticks == holder.shim_start_ticks);
    if !is_holder {
        return Ok(Some(Watch::Over));
    }
    let process = register(process)?;
    Ok(Some(Watch::Descriptor { process, child: None }))
}

impl Watch {
    /// Returns when the shim has ended, and reaps it if it is a child of this agent.
    pub async fn ended(self) {
        match self {
            Self::Descriptor { process, child } => {
                let _ = process.readable().await;
                if let Some(mut child) = child {
                    let _ = child.wait();
                }
            }
            Self::Thread(mut child) => {
                let (sender, receiver) = oneshot::channel();
                // Not one of the runtime's few threads: those resolve names, and an execution may
                // take long.
                let wait = move || {
                    let _ = child.wait();
                    let _ = sender.send(());
                };
                let thread = std::thread::Builder::new().stack_size(THREAD_STACK_BYTES);
                if let Err(error) = thread.spawn(wait) {
                    tracing::error!(%error, "failed to start a thread that waits for a shim");
                }
                let _ = receiver.await;
            }
            Self::Over => {}
        }
    }
}

fn register(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open and unchanged for as long as it is owned.
    unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }.map_err(io::Error::from)
}
