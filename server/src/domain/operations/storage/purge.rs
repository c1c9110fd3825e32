//! The deletion of a tenant's old history, which a person asks for.

use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// The last request of a tenant. Any server deletes the history, in slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoragePurge {
    pub tenant_id: TenantId,
    /// What was created before this instant and has ended is deleted.
    pub history_before: Timestamp,
    pub requested_by: PrincipalId,
    pub requested_at: Timestamp,
    /// `None` while some of it may still be there.
    pub finished_at: Option<Timestamp>,
}

impl StoragePurge {
    /// Takes over what an earlier request has left.
    pub fn after(self, earlier: Option<&Self>) -> Self {
        let open = earlier.filter(|earlier| earlier.finished_at.is_none());
        let history_before =
            open.map_or(self.history_before, |open| open.history_before.max(self.history_before));
        Self { history_before, ..self }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_request_includes_what_an_earlier_one_has_not_deleted_yet() {
        let purge = |before: i64, finished_at: Option<i64>| StoragePurge {
            tenant_id: TenantId(Uuid::nil()),
            history_before: Timestamp(before),
            requested_by: PrincipalId(Uuid::nil()),
            requested_at: Timestamp(9),
            finished_at: finished_at.map(Timestamp),
        };
        let before = |new: StoragePurge, earlier: Option<StoragePurge>| {
            new.after(earlier.as_ref()).history_before.0
        };
        assert_eq!(before(purge(5, None), None), 5);
        assert_eq!(before(purge(5, None), Some(purge(7, None))), 7);
        assert_eq!(before(purge(5, None), Some(purge(3, None))), 5);
        assert_eq!(before(purge(5, None), Some(purge(7, Some(8)))), 5);
    }
}
