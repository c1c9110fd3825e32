//! The identities of a person: it links, lists and removes them.

use serde_json::json;

use super::OidcSignIn;
use super::provider_cache::KnownProvider;
use crate::domain::access::people::oidc_provider::OidcClaims;
use crate::domain::access::records::IdentityRecord;
use crate::domain::ids::{IdentityId, SessionId};
use crate::services::access::caller::{AuditAction, Caller, Client, Subject};
use crate::services::access::mails::Letter;
use crate::services::access::people::confirmation::{require_confirmed, require_session};
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::entities::access::identity;
use crate::store::queries::{IdentityLink, IdentityRemoval};

const UNKNOWN: ServiceError = ServiceError::NotFound("identity");

impl OidcSignIn {
    /// The identities of the caller's person, the oldest first, each with the name of its provider; `None` if
    /// the operator no longer configures it.
    ///
    /// # Errors
    /// 403 `session_required` for an API key.
    pub async fn identities(
        &self,
        caller: &Caller,
    ) -> Result<Vec<(IdentityRecord, Option<String>)>> {
        let live = require_session(&self.sign_in.store, caller).await?;
        let rows = self.sign_in.store.system().identities(live.user.id).await?;
        Ok(rows.into_iter().map(|row| (self.provider_of(&row), row)).map(named).collect())
    }

    /// Removes an identity, and ends the person's other sessions: one of them may have begun with it.
    ///
    /// # Errors
    /// 403 for an API key and without a recent proof of the password; 404; 409 `last_way_in`.
    pub async fn remove_identity(&self, caller: &Caller, id: IdentityId) -> Result<()> {
        let live = require_confirmed(&self.sign_in.store, &self.sign_in.clock, caller).await?;
        let system = self.sign_in.store.system();
        let rows = system.identities(live.user.id).await?;
        let row = rows.into_iter().find(|row| row.id == id).ok_or(UNKNOWN)?;
        let now = self.sign_in.clock.now();
        let detail = json!({"provider": self.provider_of(&row), "issuer": row.issuer});
        let subject = Subject { kind: "identity", id: id.0 };
        let audit = caller.audit("identity.delete", subject, &detail, now);
        let issuer = |provider: &KnownProvider| provider.settings().issuer.clone();
        let issuers = self.providers.iter().map(issuer).collect();
        let removed = (live.user.id, id);
        match system.remove_identity(removed, live.session.id, issuers, now, audit).await? {
            IdentityRemoval::Removed => {}
            IdentityRemoval::Unknown => return Err(UNKNOWN),
            IdentityRemoval::LastWayIn => {
                return Err(ServiceError::Conflict {
                    code: "last_way_in",
                    detail: "your account has no password, and you sign in with nothing else; link another provider first".into(),
                });
            }
        }
        self.sign_in.cache.forget_principals();
        Ok(())
    }

    pub(super) async fn complete_link(
        &self,
        client: &Client,
        provider: &KnownProvider,
        claims: &OidcClaims,
        session_id: SessionId,
    ) -> Result<()> {
        let live = self.sign_in.store.system().live_session(session_id).await?;
        let live = live.ok_or(StoreError::SessionEnded)?;
        let now = self.sign_in.clock.now();
        let row = identity::Model {
            id: IdentityId::new(),
            user_id: live.user.id,
            issuer: provider.settings().issuer.clone(),
            subject: claims.subject.clone(),
            created_at: now,
            follows_in: None,
        };
        let detail = json!({"provider": provider.settings().name});
        let action = AuditAction {
            tenant_id: live.member.tenant_id,
            action: "identity.create",
            subject: Subject { kind: "identity", id: row.id.0 },
            detail: &detail,
            at: now,
        };
        let audit = action.by_member(live.member.id, Some(session_id), client);
        let letter = Letter::IdentityLinked { provider: &provider.settings().title };
        let notice = self.sign_in.mails.notice(&live.user.email, &letter)?;
        let linked = self.sign_in.store.system().link_identity(row, (audit, notice)).await?;
        let (code, detail) = match linked {
            IdentityLink::Linked => {
                self.sign_in.mails.wake();
                return Ok(());
            }
            IdentityLink::Taken => {
                ("identity_taken", "another account signs in with this person of the provider")
            }
            IdentityLink::Full => (
                "too_many_identities",
                "your account has 16 identities already; remove one with `muster identities remove`",
            ),
        };
        Err(ServiceError::Conflict { code, detail: detail.into() })
    }

    fn provider_of(&self, row: &identity::Model) -> Option<String> {
        let mut known = self.providers.iter().map(KnownProvider::settings);
        known.find(|provider| provider.issuer == row.issuer).map(|provider| provider.name.clone())
    }
}

fn named((provider, row): (Option<String>, identity::Model)) -> (IdentityRecord, Option<String>) {
    (row.into(), provider)
}
