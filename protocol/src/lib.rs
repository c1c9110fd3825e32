//! The protocol between Muster's programs, and pure rules that they share.
//!
//! This crate uses no sockets, clocks or files. A type here is a promise to agents already
//! installed: fields are only added, and only as optional ones.

pub mod audit;
pub mod commands;
pub mod escape;
pub mod facts;
pub mod frame;
pub mod identity;
pub mod library;
pub mod limits;
pub mod manifest;
pub mod object;
pub mod package;
pub mod parameter;
pub mod program;
pub mod release;
#[cfg(feature = "schedules")]
pub mod schedule;
#[cfg(feature = "schema")]
pub mod schema;

pub use commands::command::CommandName;
pub use commands::permission::Permissions;
pub use frame::CloseCode;
pub use program::error_chain::error_chain;
pub use program::exit_code::ExitCode;

/// The version of the full protocol, sent as `register.data.protocol`.
///
/// Absent in a frame: a *basic* agent, which supports only the frames of the basic protocol.
pub const PROTOCOL_VERSION: u32 = 1;
