//! What a restore leaves for the audit logs of the restored server: who restored it, when, and from which backup.
//!
//! The restore may not have the key that signs the logs. So it stores this note with the data, and the
//! first program that opens the database makes entries of it.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The setting with the note, JSON. It exists until every log has its entry.
pub const RESTORE_NOTE: &str = "restore_note";

/// A restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreNote {
    pub restored_at: Timestamp,
    /// The user of the operating system.
    pub user: String,
    /// The name of the file.
    pub file: String,
    /// Everything that was committed before is in the backup.
    pub backup_created_at: Timestamp,
    pub backup_version: String,
}
