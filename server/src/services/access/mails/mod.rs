//! Mails to people: composed from templates, stored with what they report, and sent later.

mod letter;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use uuid::Uuid;

use self::letter::MailContent;
pub(in crate::services) use self::letter::{Letter, RESET_MS};
use crate::adapters::smtp::client::{OutgoingMail, SmtpClient};
use crate::domain::access::mail_retry::{MailOutcome, NextMail, plan_mail};
use crate::domain::ids::{MailId, TenantId};
use crate::domain::origin::Origin;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::mail;
use crate::store::{Store, StoreError};

/// What mails are sealed for.
pub(in crate::services) const FIELD: &str = "mail";
/// Mails belong to no tenant.
const NO_TENANT: TenantId = TenantId(Uuid::nil());
/// Mails that are sent at once.
const MAILS_AT_ONCE: u64 = 8;
/// Kind of a mail that is not sent: it costs as much as one that is, so that neither answer nor time shows
/// whether there was one.
const DECOY: &str = "none";
/// Kind of a mail of an integration.
const INTEGRATION: &str = "integration";
/// How long a mail of an integration is worth sending: a day.
const INTEGRATION_MS: u64 = 24 * 3_600_000;

/// Composes and sends mails.
#[derive(Clone, Debug)]
pub struct Mails {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) client: SmtpClient,
    pub(in crate::services) first_retry: Duration,
    /// Where people reach this server; `None` if that is not configured.
    pub(in crate::services) server: Option<Origin>,
    /// Notified when a mail was stored.
    pub(in crate::services) queued: Arc<Notify>,
}

impl Mails {
    /// # Errors
    /// 409 `mail_not_configured` if no mail server is configured.
    pub(in crate::services) fn require(&self) -> Result<()> {
        if self.client.is_configured() {
            return Ok(());
        }
        Err(ServiceError::Conflict {
            code: "mail_not_configured",
            detail: "this server sends no mail; its operator must set `smtp_url` and `smtp_from`"
                .into(),
        })
    }

    /// A mail to store in the transaction of what it reports. Call [`Self::wake`] after the commit.
    ///
    /// # Errors
    /// [`ServiceError::Sealing`].
    pub(in crate::services) fn compose(
        &self,
        to: &str,
        letter: &Letter<'_>,
    ) -> Result<mail::Model> {
        let server = self.server.as_ref().map(ToString::to_string);
        let content = letter.render(to, server.as_deref())?;
        self.row(letter.kind(), &content, letter.worth_sending_ms())
    }

    /// A notice of a change; `None` if no mail server is configured.
    ///
    /// # Errors
    /// [`ServiceError::Sealing`].
    pub(in crate::services) fn notice(
        &self,
        to: &str,
        letter: &Letter<'_>,
    ) -> Result<Option<mail::Model>> {
        self.client.is_configured().then(|| self.compose(to, letter)).transpose()
    }

    /// A message of an integration, for a member of the tenant. The text is shown as it is.
    ///
    /// # Errors
    /// [`ServiceError::Sealing`].
    pub(in crate::services) fn integration_message(
        &self,
        to: &str,
        subject: &str,
        text: &str,
    ) -> Result<mail::Model> {
        self.row(INTEGRATION, &MailContent::plain(to, subject, text), INTEGRATION_MS)
    }

    /// Where people reach this server.
    pub(in crate::services) fn server(&self) -> Option<String> {
        self.server.as_ref().map(ToString::to_string)
    }

    /// A mail whose receiver proves the address by it; `None` if mails reach no mailbox.
    ///
    /// # Errors
    /// [`ServiceError::Sealing`].
    pub(in crate::services) fn to_mailbox(
        &self,
        to: &str,
        letter: &Letter<'_>,
    ) -> Result<Option<mail::Model>> {
        self.client.reaches_people().then(|| self.compose(to, letter)).transpose()
    }

    /// A decoy, stored in place of a mail that is not sent, so that observers can't tell the difference.
    ///
    /// # Errors
    /// [`ServiceError::Sealing`].
    pub(in crate::services) fn decoy(&self, instead_of: &Letter<'_>) -> Result<mail::Model> {
        let content = instead_of.render("nobody@invalid", None)?;
        self.row(DECOY, &content, instead_of.worth_sending_ms())
    }

    fn row(&self, kind: &str, content: &MailContent, worth_sending_ms: u64) -> Result<mail::Model> {
        let now = self.clock.now();
        let plain = content.to_bytes()?;
        Ok(mail::Model {
            id: MailId::new(),
            kind: kind.to_owned(),
            sealed: self.secret_box.seal(NO_TENANT, FIELD, &plain)?,
            is_failed: false,
            created_at: now,
            due_at: now,
            give_up_at: now.plus_ms(worth_sending_ms),
            tries: 0,
        })
    }

    /// Wakes the sender after a mail was committed.
    pub(in crate::services) fn wake(&self) {
        self.queued.notify_one();
    }

    /// Waits until a mail was stored by this server.
    pub async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Sends mails that are due. Returns after how many milliseconds the next one is; `None` if none waits.
    ///
    /// # Errors
    /// [`StoreError`]. A mail whose result could not be recorded is sent again.
    pub async fn send_due(&self) -> std::result::Result<Option<u64>, StoreError> {
        if !self.client.is_configured() {
            return Ok(None);
        }
        let now = self.clock.now();
        let waiting = self.store.system().waiting_mails(MAILS_AT_ONCE).await?;
        let next = waiting.first().map(|next| next.due_at.ms_since(now));
        let due: Vec<_> = waiting.into_iter().filter(|mail| mail.due_at <= now).collect();
        let attempts = due.into_iter().map(|mail| self.attempt(mail));
        for result in join_all(attempts).await {
            result?;
        }
        Ok(next)
    }

    async fn attempt(&self, row: mail::Model) -> std::result::Result<(), StoreError> {
        let system = self.store.system();
        if row.kind == DECOY {
            return system.delete_mail(row.id).await;
        }
        let now = self.clock.now();
        let tries = row.tries.saturating_add(1).unsigned_abs();
        // Only if this server stops before the result is recorded.
        let timeout_ms = u64::try_from(self.client.timeout().as_millis()).unwrap_or(u64::MAX);
        let due_at = now.plus_ms(timeout_ms.saturating_mul(2).max(1_000));
        if !system.claim_mail(row.id, row.tries, due_at).await? {
            return Ok(());
        }
        let (outcome, error) = self.send(&row).await;
        let now = self.clock.now();
        let next = plan_mail(outcome, tries, self.first_retry, now, row.give_up_at);
        let (id, kind) = (row.id, row.kind);
        match next {
            NextMail::Done => system.delete_mail(id).await,
            NextMail::GivenUp => {
                tracing::warn!(mail = %id, kind, tries, error, "failed to send a mail; giving up");
                system.fail_mail(id, now).await
            }
            NextMail::Retry { due_at } => {
                tracing::info!(mail = %id, kind, tries, error, "failed to send a mail; retrying");
                system.retry_mail(id, due_at).await
            }
        }
    }

    async fn send(&self, row: &mail::Model) -> (MailOutcome, String) {
        let opened = self.secret_box.open(NO_TENANT, FIELD, &row.sealed);
        let content = opened.ok().and_then(|plain| MailContent::from_bytes(&plain));
        let Some(content) = content else {
            return (MailOutcome::Refused, "the mail was sealed with another master key".into());
        };
        let MailContent { to, subject, text, html } = content;
        let mail = OutgoingMail { id: row.id.to_string(), to, subject, text, html };
        match self.client.send(mail).await {
            Ok(()) => (MailOutcome::Sent, String::new()),
            Err(problem) if problem.is_final => (MailOutcome::Refused, problem.error),
            Err(problem) => (MailOutcome::Failed, problem.error),
        }
    }
}
