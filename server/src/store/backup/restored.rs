//! What a restore changes in the data, so that nothing starts that may have run after the backup.
//!
//! Commands need no change: a host remembers those that it accepted and repeats their result. Only the
//! schedules would start new ones.

use data_encoding::HEXLOWER;

use crate::domain::restore_note::{RESTORE_NOTE, RestoreNote};
use crate::store::connect::Backend;

/// The statements.
///
/// Due times between the backup and the restore are not made up, because the server may have started them
/// before it was lost. Fires that waited for their job at the time of the backup are skipped for the same
/// reason.
pub(super) fn statements(backend: Backend, note: &RestoreNote) -> [String; 4] {
    let now = note.restored_at.0;
    // Plain data always serialises.
    let note = HEXLOWER.encode(&serde_json::to_vec(note).unwrap_or_default());
    let note = match backend {
        Backend::Sqlite => format!("X'{note}'"),
        Backend::Postgres => format!("'\\x{note}'::bytea"),
    };
    [
        format!("UPDATE schedules SET handled_until = {now} WHERE handled_until < {now}"),
        "UPDATE fires SET state = 'skipped', reason = 'missed', look_at = NULL, detail = 'the server was \
         restored from a backup; whether the job was started after the backup is unknown' \
         WHERE look_at IS NOT NULL AND job_id IS NULL"
            .to_owned(),
        // The backup may be of a server that was restored and never started.
        format!("DELETE FROM settings WHERE name LIKE '{RESTORE_NOTE}%'"),
        format!("INSERT INTO settings (name, value) VALUES ('{RESTORE_NOTE}', {note})"),
    ]
}
