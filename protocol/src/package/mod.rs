//! Packages: archives with a `muster.toml`, which hosts unpack and run.
//!
//! A package is a document (JSON, [`PackageDocument`]) and an archive. The document names the SHA-256 of
//! the archive; a command names the SHA-256 of the document. So a pinned command pins everything that
//! runs. Server and host check an archive by the same rules.

#[cfg(feature = "archives")]
pub mod archive;
mod assignment;
#[cfg(feature = "descriptions")]
pub mod description;
mod document;
mod entries;
mod pin;
mod reference;
mod schedule;
mod service;
mod signature;

pub use self::assignment::{
    ASSIGNED_SCRIPTS_CAPABILITY, ASSIGNMENTS_CAPABILITY, AssignedItem, AssignedScript,
    AssignmentReport, AssignmentState, MAX_AGENT_ASSIGNMENTS, MAX_ASSIGNED_DOCUMENT_BYTES,
    MAX_ASSIGNED_PARAMETERS_BYTES, TaskRun,
};
pub use self::document::{
    MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, PackageDocument, PackageExecutor, PackageKind,
    is_package_version,
};
pub use self::entries::{
    Entries, EntryKind, EntryProblem, MAX_ENTRIES, MAX_PATH_BYTES, MAX_PATH_DEPTH,
    MAX_UNPACK_RATIO, MAX_UNPACKED_BYTES, MIN_RATIO_BYTES,
};
pub use self::pin::{PackageContentError, PackagePin, open_document};
pub use self::reference::{PACKAGE_PREFIX, PackageReference};
pub use self::schedule::{
    MAX_SCHEDULE_TEXT_BYTES, MAX_TASK_INTERVAL_MS, MIN_TASK_INTERVAL_MS, TaskSchedule,
};
pub use self::service::{
    DEFAULT_SERVICE_LOG_BYTES, HealthCheck, MAX_CPU_PERCENT, MAX_HEALTH_FAILURES,
    MAX_HEALTH_INTERVAL_MS, MAX_SERVICE_LOG_BYTES, MAX_SERVICE_OUTPUT_BYTES, MAX_STOP_GRACE_MS,
    MIN_HEALTH_INTERVAL_MS, MIN_SERVICE_LOG_BYTES, MIN_SERVICE_MEMORY_BYTES, RestartPolicy,
    SERVICE_TIMEOUT_MS, ServiceControl, ServiceHealth, ServiceLimits, ServiceReport,
    ServiceSettings, ServiceState,
};
pub use self::signature::{MAX_PACKAGE_SIGNATURES, SignedPackage, find_package_statement};

/// The capability of an agent that runs packages.
pub const CAPABILITY: &str = "packages";
/// The format of a document.
pub const DOCUMENT_FORMAT: u32 = 1;
/// The file of an archive that describes it.
pub const DESCRIPTION_FILE: &str = "muster.toml";
/// Largest `muster.toml`, in bytes.
pub const MAX_DESCRIPTION_BYTES: u64 = 64 * 1024;
/// Largest archive, in bytes.
pub const MAX_ARCHIVE_BYTES: u64 = 256 * 1024 * 1024;
