//! Limits that server and agent enforce. Units are in the names; sizes are in bytes.

/// Largest text frame or HTTP body that an agent may send, and largest frame that a basic agent
/// receives.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// Largest payload of one binary output frame, record headers included.
pub const MAX_OUTPUT_FRAME_BYTES: usize = 256 * 1024;
/// Largest payload of one output record.
pub const MAX_OUTPUT_RECORD_BYTES: usize = 64 * 1024;
/// Most output of one execution, both streams; the host drops and counts what exceeds it.
pub const MAX_OUTPUT_BYTES: u64 = 1024 * 1024 * 1024;
/// Output that an agent may have in flight, per execution, before it waits for an acknowledgement.
pub const OUTPUT_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Items of one `inventory` page.
pub const MAX_INVENTORY_PAGE: usize = 500;
/// Largest `data` of one command, as JSON.
pub const MAX_COMMAND_DATA_BYTES: usize = 512 * 1024;
/// Words of an ad-hoc command.
pub const MAX_ARGV_WORDS: usize = 1_024;
/// Total size of the words of an ad-hoc command.
pub const MAX_ARGV_BYTES: usize = 64 * 1024;
/// Deepest nesting of JSON that is accepted; serde_json itself rejects more than 128.
pub const MAX_JSON_DEPTH: usize = 64;
/// Scripts of one manifest.
pub const MAX_MANIFEST_SCRIPTS: usize = 1_000;
/// Size of a host's manifest as JSON. It still fits into a frame.
pub const MAX_SCRIPT_MANIFEST_BYTES: usize = MAX_FRAME_BYTES / 2;
/// Size of the path and of the interpreter of a script.
pub const MAX_PATH_BYTES: usize = 4 * 1024;
/// Length of a description in a manifest, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 1_024;
/// Choices of one parameter.
pub const MAX_CHOICES: usize = 256;
/// The highest session epoch that an agent may report.
pub const MAX_EPOCH: u64 = 1 << 53;
/// Default number of commands that one agent runs or holds accepted at once.
pub const DEFAULT_MAX_EXECUTIONS: u32 = 16;
/// Largest `max_executions` that an agent may report.
pub const MAX_MAX_EXECUTIONS: u32 = 1_024;
/// Default time between two heartbeats.
pub const DEFAULT_HEARTBEAT_INTERVAL_MS: u64 = 30_000;
/// An agent is offline after this many missed heartbeats.
pub const MISSED_HEARTBEATS: u32 = 3;
/// Longest wait of one long poll.
pub const MAX_POLL_WAIT_MS: u64 = 30_000;
/// Default timeout of an `execute`.
pub const DEFAULT_TIMEOUT_MS: u64 = 3_600_000;
/// Longest timeout of an `execute`: seven days.
pub const MAX_TIMEOUT_MS: u64 = 7 * 24 * 3_600_000;
/// Time between TERM and KILL when an execution is cancelled or timed out.
pub const CANCEL_GRACE_MS: u64 = 10_000;
/// Default time that a command may wait in `queued`.
pub const DEFAULT_EXPIRES_IN_MS: u64 = 24 * 3_600_000;
/// Longest time that a command may wait in `queued`.
pub const MAX_EXPIRES_IN_MS: u64 = 30 * 24 * 3_600_000;
/// How long an agent with a delivered command may be disconnected before the command is `lost`.
pub const DEFAULT_LOST_AFTER_MS: u64 = 24 * 3_600_000;
/// How long an agent keeps settled results: longer than the longest expiry of a command.
pub const SETTLED_RETENTION_MS: u64 = 35 * 24 * 3_600_000;
