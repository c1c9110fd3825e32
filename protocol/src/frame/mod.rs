//! The frames of a session.
//!
//! Text frames are JSON objects tagged by `type`; output is sent in binary frames. Over HTTP the
//! same frames are packed into the bodies of [`exchange`].
//!
//! A session of a *full* agent, in order:
//! 1. server `connected`, agent `register`, server `registered` (or a close);
//! 2. agent `manifest`, then `inventory` pages, then `inventory_end`;
//! 3. the server commits what the inventory says, then answers each listed command with `ack`
//!    (its committed output offset, or the receipt of its result) and repeats every `cancel`;
//!    a listed command gets no output sent before that `ack`;
//! 4. `command` → `accepted` → `started` → output ⇄ `ack` → `response` → `ack` with a receipt.
//!
//! A *basic* agent knows only `register`, `heartbeat`, `response`, `connected`, `command`.

mod agent;
mod close_code;
mod decode;
pub mod exchange;
pub mod output;
mod result;
mod server;

pub use agent::{
    AgentFrame, Heartbeat, InventoryItem, InventoryState, LedgerComparison, Registration, Response,
    SERVICE_MANAGERS, Telemetry, compare_ledger,
};
pub use close_code::CloseCode;
pub use decode::{DecodeError, decode_agent_frame, decode_server_frame};
pub use result::{ExecuteResult, Outcome};
pub use server::{Ack, AuthorityNotice, Command, ErrorCode, Receipt, Registered, ServerFrame};
