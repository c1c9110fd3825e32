//! The main loop and everything that it does between two starts of the agent.

mod download;
mod helper_process;
mod idle;
mod pending_writes;
mod state;
mod supervisor;
mod trial;
mod update;

pub use state::{Finish, SuperviseError, UpdateState};
pub use supervisor::Supervisor;
