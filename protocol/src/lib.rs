//! The protocol between Muster's programs, and pure rules that they share.
//!
//! This crate uses no sockets, clocks or files. A type here is a promise to agents already
//! installed: fields are only added, and only as optional ones.

pub mod argv;
pub mod attestation;
pub mod audit;
pub mod backoff;
pub mod capsule;
pub mod command;
pub mod error_chain;
pub mod escape;
pub mod exit_code;
pub mod file_transfer;
pub mod frame;
pub mod identity;
pub mod library;
pub mod limits;
pub mod log_format;
pub mod manifest;
pub mod object;
pub mod package;
pub mod parameter;
pub mod permission;
pub mod proxy_environment;
pub mod release;
pub mod request_id;
#[cfg(feature = "schedules")]
pub mod schedule;
#[cfg(feature = "schema")]
pub mod schema;
pub mod secret;
pub mod secret_parameters;
pub mod stdin;
pub mod step;
pub mod version;

pub use command::CommandName;
pub use error_chain::error_chain;
pub use exit_code::ExitCode;
pub use frame::CloseCode;
pub use permission::Permissions;

/// The version of the full protocol, sent as `register.data.protocol`.
///
/// Absent in a frame: a *basic* agent, which supports only the frames of the basic protocol.
pub const PROTOCOL_VERSION: u32 = 1;
