//! The bounds both ends keep. Units are in the names; sizes are bytes.

/// Largest text frame or HTTP body an agent may send, and the largest frame a basic agent is sent.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// Largest payload of one binary output frame, record headers included.
pub const MAX_OUTPUT_FRAME_BYTES: usize = 256 * 1024;
/// Largest payload of one output record.
pub const MAX_OUTPUT_RECORD_BYTES: usize = 64 * 1024;
/// Most output of one execution, both streams: what is beyond is dropped on the host and counted.
pub const MAX_OUTPUT_BYTES: u64 = 1024 * 1024 * 1024;
/// Output an agent may have in flight, per execution, before it waits for an acknowledgement.
pub const OUTPUT_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Items of one `inventory` page.
pub const MAX_INVENTORY_PAGE: usize = 500;
/// Largest `data` of one command, as JSON.
pub const MAX_COMMAND_DATA_BYTES: usize = 512 * 1024;
/// Words of an ad-hoc command.
pub const MAX_ARGV_WORDS: usize = 1_024;
/// The words of an ad-hoc command together.
pub const MAX_ARGV_BYTES: usize = 64 * 1024;
/// Deepest nesting of JSON that either end reads; serde_json refuses beyond 128 by itself.
pub const MAX_JSON_DEPTH: usize = 64;
/// Scripts of one manifest.
pub const MAX_MANIFEST_SCRIPTS: usize = 1_000;
/// The highest session epoch that an agent may claim to have seen.
pub const MAX_EPOCH: u64 = 1 << 53;
/// Commands that one agent works on or holds accepted at once, unless it says otherwise.
pub const DEFAULT_MAX_EXECUTIONS: u32 = 16;
/// The most an agent may ask for as its `max_executions`.
pub const MAX_MAX_EXECUTIONS: u32 = 1_024;
/// Between two heartbeats, unless `registered` says otherwise.
pub const DEFAULT_HEARTBEAT_INTERVAL_MS: u64 = 30_000;
/// An agent is offline after this many heartbeats have failed to come.
pub const MISSED_HEARTBEATS: u32 = 3;
/// Longest wait of one long poll.
pub const MAX_POLL_WAIT_MS: u64 = 30_000;
/// Run time of an `execute` that names none.
pub const DEFAULT_TIMEOUT_MS: u64 = 3_600_000;
/// Longest run time that may be asked for: seven days.
pub const MAX_TIMEOUT_MS: u64 = 7 * 24 * 3_600_000;
/// Between TERM and KILL when a run is cancelled or out of time.
pub const CANCEL_GRACE_MS: u64 = 10_000;
/// How long a command waits in `queued`, unless asked otherwise.
pub const DEFAULT_EXPIRES_IN_MS: u64 = 24 * 3_600_000;
/// The longest a command may wait in `queued`.
pub const MAX_EXPIRES_IN_MS: u64 = 30 * 24 * 3_600_000;
/// How long an agent may be away with a delivered command before it is `lost`.
pub const DEFAULT_LOST_AFTER_MS: u64 = 24 * 3_600_000;
/// How long settled results stay with the agent: longer than the longest expiry of a command.
pub const SETTLED_RETENTION_MS: u64 = 35 * 24 * 3_600_000;
