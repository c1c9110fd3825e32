//! How a session begins.

use serde_json::{Value, json};

use crate::domain::ids::{DeviceLoginId, SessionId};
use crate::domain::time::Timestamp;
use crate::store::entities::access::{audit_entry, user_session};
use crate::store::queries::UsedFactor;

/// A session whose person has not proven itself for what needs a recent proof.
pub(super) const UNCONFIRMED: Timestamp = Timestamp(0);

/// How a session begins.
pub(super) struct SessionStart {
    pub id: SessionId,
    /// When the person last proved itself.
    pub confirmed_at: Timestamp,
    /// Whether that was a passkey.
    pub by_passkey: bool,
    /// Of the audit entry; without secrets.
    pub detail: Value,
    /// A session that ends by it, with the entry of its end.
    pub replaces: Option<(SessionId, audit_entry::Model)>,
    /// A second factor that it uses up.
    pub factor: Option<UsedFactor>,
    /// A sign-in of a program, which is used up by it.
    pub device_login: Option<DeviceLoginId>,
}

impl SessionStart {
    /// With a proof that was given just now.
    pub(super) fn confirmed(now: Timestamp) -> Self {
        Self {
            id: SessionId::new(),
            confirmed_at: now,
            by_passkey: false,
            detail: json!({}),
            replaces: None,
            factor: None,
            device_login: None,
        }
    }

    /// In another tenant, instead of this session.
    pub(super) fn replacing(session: &user_session::Model, audit: audit_entry::Model) -> Self {
        let (replaces, by_passkey) = (Some((session.id, audit)), session.confirmed_by_passkey);
        Self { replaces, by_passkey, ..Self::confirmed(session.confirmed_at) }
    }

    /// For a program, which a person approved elsewhere. The person did not prove itself on that device.
    pub(super) fn of_device(id: DeviceLoginId) -> Self {
        let detail = json!({"device_login_id": id});
        Self { detail, device_login: Some(id), ..Self::confirmed(UNCONFIRMED) }
    }
}
