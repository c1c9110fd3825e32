//! What a restore changes in the data, so that nothing starts that may have run after the backup.
//!
//! Commands need no change: a host remembers those that it accepted and repeats their result. Only the
//! schedules would start new ones.

use crate::domain::time::Timestamp;

/// The statements, which are the same on both databases.
///
/// Due times between the backup and the restore are not made up, because the server may have started them
/// before it was lost. Fires that waited for their job at the time of the backup are skipped for the same
/// reason.
pub(super) fn statements(now: Timestamp) -> [String; 2] {
    let now = now.0;
    [
        format!("UPDATE schedules SET handled_until = {now} WHERE handled_until < {now}"),
        "UPDATE fires SET state = 'skipped', reason = 'missed', look_at = NULL, detail = 'the server was \
         restored from a backup; whether the job was started after the backup is unknown' \
         WHERE look_at IS NOT NULL AND job_id IS NULL"
            .to_owned(),
    ]
}
