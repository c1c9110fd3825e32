//! A change of an account that its person and the tenants learn of.

use sea_orm::DatabaseTransaction;

use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, mail};
use crate::store::queries::access::mails::queue_notice;
use crate::store::requester::write_audit;

/// The audit entries of a change, with that of the session first, and the mail about it.
#[derive(Debug, Clone, Default)]
pub struct ReportedChange {
    pub audits: Vec<audit_entry::Model>,
    pub notice: Option<mail::Model>,
}

pub(super) async fn report(
    transaction: &DatabaseTransaction,
    reported: ReportedChange,
) -> Result<(), StoreError> {
    for audit in reported.audits {
        write_audit(transaction, audit).await?;
    }
    queue_notice(transaction, reported.notice).await
}
