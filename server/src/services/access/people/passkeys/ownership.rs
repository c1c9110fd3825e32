//! A person adds, lists and removes passkeys.

use serde_json::json;
use zeroize::Zeroizing;

use super::ceremony::{Ceremony, Purpose};
use super::{AskedNewPasskey, INVALID, Passkeys, unexpected};
use crate::domain::access::people::passkey::{MAX_PASSKEYS_OF_PERSON, MadePasskey, PasskeyRecord};
use crate::domain::access::people::totp::RecoveryCodes;
use crate::domain::ids::PasskeyId;
use crate::domain::name::check_name;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::mails::Letter;
use crate::services::access::people::account::entries_of_other_tenants;
use crate::services::access::people::confirmation::{require_confirmed, require_session};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::passkey;
use crate::store::queries::{LiveUserSession, PasskeyAddition, ReportedChange};

const UNKNOWN: ServiceError = ServiceError::NotFound("passkey");

/// A passkey that was added.
pub struct AddedPasskey {
    pub passkey: PasskeyRecord,
    /// Empty unless it is the first second factor of the person.
    pub recovery_codes: Vec<Zeroizing<String>>,
}

impl Passkeys {
    /// The passkeys of the caller's person, the oldest first.
    ///
    /// # Errors
    /// 403 `session_required` for an API key.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<PasskeyRecord>> {
        let live = require_session(&self.sign_in.store, caller).await?;
        let rows = self.sign_in.store.system().passkeys(live.user.id).await?;
        Ok(rows.into_iter().map(PasskeyRecord::from).collect())
    }

    /// Begins to make a passkey for the caller's person.
    ///
    /// # Errors
    /// 403 for an API key, without a recent proof of the password, and `code_required` without a code for a
    /// person with a second factor; 409 `password_required`, `public_url_required`; 422 `wrong_code`;
    /// [`ServiceError::RateLimited`].
    pub async fn begin(
        &self,
        caller: &Caller,
        code: Option<Zeroizing<String>>,
    ) -> Result<AskedNewPasskey> {
        let live = require_confirmed(&self.sign_in.store, &self.sign_in.clock, caller).await?;
        let verifier = self.verifier()?;
        if live.user.password_hash.is_empty() {
            return Err(ServiceError::Conflict {
                code: "password_required",
                detail: "you sign in with a provider, which decides how you prove yourself; a passkey needs an account with a password".into(),
            });
        }
        self.sign_in.require_factor(&live, code).await?;
        let known = self.sign_in.store.system().passkeys(live.user.id).await?;
        let user = &live.user;
        let (options, state) =
            verifier.begin(user.id.0, &user.email, &user.name).map_err(unexpected)?;
        let purpose = Purpose::New(live.session.id);
        let begun = Ceremony { purpose, state, begun_at: self.sign_in.clock.now() };
        Ok(AskedNewPasskey {
            challenge: begun.seal(&self.sign_in.secret_box)?,
            options,
            user_id: user.id,
            email: user.email.clone(),
            name: user.name.clone(),
            known: known.into_iter().map(|row| row.credential_id).collect(),
            expires_at: begun.expires_at(),
        })
    }

    /// Adds a passkey that a device made. If it is the first second factor of the person, the answer has
    /// recovery codes, and the person's other sessions end.
    ///
    /// # Errors
    /// 401 `invalid_challenge`; 403 `session_required` for an API key; 409 `passkey_taken`,
    /// `too_many_passkeys`, `public_url_required`; 422 `invalid_passkey`.
    pub async fn add(
        &self,
        caller: &Caller,
        challenge: &str,
        name: &str,
        made: &MadePasskey,
    ) -> Result<AddedPasskey> {
        let live = require_session(&self.sign_in.store, caller).await?;
        check_name(name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        let (verifier, now) = (self.verifier()?, self.sign_in.clock.now());
        let begun = Ceremony::open(challenge, &self.sign_in.secret_box, now).ok_or(INVALID)?;
        if begun.purpose != Purpose::New(live.session.id) {
            return Err(INVALID);
        }
        let stored = verifier.made(&begun.state, made).map_err(|error| ServiceError::Invalid {
            code: "invalid_passkey",
            detail: format!("the device made no passkey for this server: {error}"),
        })?;
        let row = passkey::Model {
            id: PasskeyId::new(),
            user_id: live.user.id,
            credential_id: stored.credential_id,
            name: name.to_owned(),
            credential: stored.credential,
            sign_count: stored.sign_count.into(),
            created_at: now,
            last_used_at: None,
        };
        let codes = RecoveryCodes::random()?;
        let letter = Letter::PasskeyAdded { name };
        let reported = self.reported(caller, &live, ("passkey.create", row.id), &letter).await?;
        let system = self.sign_in.store.system();
        let added = system.add_passkey(row.clone(), codes.hashes, now, reported).await?;
        let refusal = |code, detail: String| ServiceError::Conflict { code, detail };
        let recovery_codes = match added {
            PasskeyAddition::First => codes.texts,
            PasskeyAddition::Added => Vec::new(),
            PasskeyAddition::Taken => {
                let detail = "this device has a passkey for this server already".to_owned();
                return Err(refusal("passkey_taken", detail));
            }
            PasskeyAddition::Full => {
                let detail = format!(
                    "your account has {MAX_PASSKEYS_OF_PERSON} passkeys already; remove one with `muster passkeys remove`"
                );
                return Err(refusal("too_many_passkeys", detail));
            }
        };
        self.sign_in.cache.forget_principals();
        self.sign_in.mails.wake();
        Ok(AddedPasskey { passkey: row.into(), recovery_codes })
    }

    /// Removes a passkey, and ends the person's other sessions. With the last second factor go the recovery
    /// codes.
    ///
    /// # Errors
    /// 403 for an API key, without a recent proof of the password, and `code_required` without a code; 404;
    /// 422 `wrong_code`; [`ServiceError::RateLimited`].
    pub async fn remove(
        &self,
        caller: &Caller,
        id: PasskeyId,
        code: Option<Zeroizing<String>>,
    ) -> Result<()> {
        let live = require_confirmed(&self.sign_in.store, &self.sign_in.clock, caller).await?;
        let system = self.sign_in.store.system();
        let known = system.passkeys(live.user.id).await?;
        let row = known.into_iter().find(|row| row.id == id).ok_or(UNKNOWN)?;
        self.sign_in.require_factor(&live, code).await?;
        let letter = Letter::PasskeyRemoved { name: &row.name };
        let reported = self.reported(caller, &live, ("passkey.delete", id), &letter).await?;
        let now = self.sign_in.clock.now();
        if !system.remove_passkey((live.user.id, id), now, reported).await? {
            return Err(UNKNOWN);
        }
        self.sign_in.cache.forget_principals();
        self.sign_in.mails.wake();
        Ok(())
    }

    /// The entries of a change in all tenants of the person, and the mail about it.
    async fn reported(
        &self,
        caller: &Caller,
        live: &LiveUserSession,
        (action, id): (&'static str, PasskeyId),
        letter: &Letter<'_>,
    ) -> Result<ReportedChange> {
        let now = self.sign_in.clock.now();
        let subject = Subject { kind: "passkey", id: id.0 };
        let mut audits = vec![caller.audit(action, subject, &json!({}), now)];
        let detail = json!({"changed": ["passkeys"]});
        audits.extend(entries_of_other_tenants(&self.sign_in.store, live, &detail, now).await?);
        let notice = self.sign_in.mails.notice(&live.user.email, letter)?;
        Ok(ReportedChange { audits, notice })
    }
}
