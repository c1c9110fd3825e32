//! The second factor of a person who lost it.

use super::passkeys::delete_passkeys;
use super::reported_change::{ReportedChange, report};
use super::second_factors::delete_factor;
use super::session_end::{SessionsToEnd, end_all, sessions_to_end};
use super::totp_secrets::find;
use crate::domain::ids::UserId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::queries::SystemScope;

impl SystemScope {
    /// Deletes the secret, the passkeys and the recovery codes of a person who lost them, and ends the person's
    /// sessions; false without any.
    pub async fn reset_totp(
        &self,
        user_id: UserId,
        now: Timestamp,
        reported: ReportedChange,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let reported = reported.clone();
                Box::pin(async move {
                    let passkeys = delete_passkeys(transaction, user_id).await?;
                    if passkeys == 0 && find(transaction, user_id).await?.is_none() {
                        return Ok(false);
                    }
                    report(transaction, reported).await?;
                    delete_factor(transaction, user_id).await?;
                    let open = sessions_to_end(transaction, user_id, SessionsToEnd::All).await?;
                    end_all(transaction, open, now).await?;
                    Ok(true)
                })
            })
            .await
    }
}
