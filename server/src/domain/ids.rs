//! Ids as types, so that an agent's id can't be passed where a key's id is expected.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::time::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id. Ids that are created later sort later.
            #[expect(clippy::new_without_default, reason = "a default id would hide that it is random")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// An isolated customer of this server.
    TenantId
);
id!(
    /// An API key of a tenant.
    ApiKeyId
);
id!(
    /// Who asks for work in a tenant: an API key, a member, or the operator. The ids of all of them are
    /// different, so one id names exactly one of them.
    PrincipalId
);
id!(
    /// A person, for the server as a whole.
    UserId
);
id!(
    /// A person in a tenant, with one role. The same person in another tenant is another member.
    MemberId
);
id!(
    /// A member who is signed in, on one device.
    SessionId
);
id!(
    /// A key that signs access tokens.
    TokenKeyId
);
id!(
    /// A person at a provider of single sign-on.
    IdentityId
);
id!(
    /// A key pair of a person's device.
    PasskeyId
);
id!(
    /// A certificate of a client.
    CertificateId
);
id!(
    /// A sign-in of a program that a person decides about elsewhere.
    DeviceLoginId
);
id!(
    /// An invitation to become a member.
    InvitationId
);
id!(
    /// A person who wants an account, until the address is verified.
    RegistrationId
);
id!(
    /// A mail that waits to be sent.
    MailId
);
id!(
    /// An agent key, with which agents enrol.
    AgentKeyId
);
id!(
    /// An agent, for as long as it is enrolled.
    AgentId
);
id!(
    /// A command for one agent.
    CommandId
);
id!(
    /// A job, on one agent or many.
    JobId
);
id!(
    /// An entry of the audit log.
    AuditId
);
id!(
    /// A transition of an agent between online and offline, or an alert.
    EventId
);
id!(
    /// A delivery to a webhook, with all its attempts.
    WebhookDeliveryId
);
id!(
    /// A key that signs a tenant's webhooks.
    WebhookKeyId
);
id!(
    /// An integration, which sends events of a tenant to another service.
    IntegrationId
);
id!(
    /// A release.
    ReleaseId
);
id!(
    /// A rule that makes work wait for an approval.
    ApprovalRuleId
);
id!(
    /// A request for approval.
    ApprovalId
);
id!(
    /// A group of agents.
    GroupId
);
id!(
    /// A schedule.
    ScheduleId
);
id!(
    /// A due time of a schedule, and what the server did about it.
    FireId
);
id!(
    /// A script of the library.
    ScriptId
);
id!(
    /// A version of a script.
    ScriptVersionId
);
id!(
    /// A publisher's signature of a version.
    ScriptSignatureId
);
id!(
    /// A publisher's signature of a version of a package.
    PackageSignatureId
);
id!(
    /// A file that was uploaded to be pushed to hosts.
    FileId
);
id!(
    /// A version of a package.
    PackageId
);
id!(
    /// What is assigned: the id of a package, or of a version of a script.
    ContentId
);

impl From<PackageId> for ContentId {
    fn from(id: PackageId) -> Self {
        Self(id.0)
    }
}

impl From<ScriptVersionId> for ContentId {
    fn from(id: ScriptVersionId) -> Self {
        Self(id.0)
    }
}

id!(
    /// An assignment of a package or a script.
    AssignmentId
);
id!(
    /// A calendar.
    CalendarId
);
id!(
    /// A rule that opens alerts.
    AlertRuleId
);
id!(
    /// An alert.
    AlertId
);
id!(
    /// An inbound hook.
    HookId
);
id!(
    /// A delivery to an inbound hook.
    HookDeliveryId
);
id!(
    /// What a schedule of a script with a trigger keeps for one agent.
    TriggerStateId
);

impl PrincipalId {
    /// The operator of the server, at its terminal.
    pub const OPERATOR: Self = Self(Uuid::nil());
}

impl From<ApiKeyId> for PrincipalId {
    fn from(id: ApiKeyId) -> Self {
        Self(id.0)
    }
}

impl From<MemberId> for PrincipalId {
    fn from(id: MemberId) -> Self {
        Self(id.0)
    }
}

/// The smallest id that can be created at or after an instant.
pub fn first_id_at(at: Timestamp) -> Uuid {
    let milliseconds = Ord::max(at.0, 0).cast_unsigned();
    let instant = uuid::Timestamp::from_unix(
        uuid::NoContext,
        milliseconds / 1_000,
        u32::try_from(milliseconds % 1_000 * 1_000_000).unwrap_or(0),
    );
    let mut bytes = *Uuid::new_v7(instant).as_bytes();
    // All bits after the milliseconds are random, so the smallest id has zeros there.
    bytes[6] = 0x70;
    bytes[7] = 0;
    bytes[8] = 0x80;
    bytes[9..].fill(0);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_created_now_sorts_between_this_millisecond_and_the_next() {
        let id = Uuid::now_v7();
        let (seconds, nanoseconds) = id.get_timestamp().expect("of version 7").to_unix();
        let made = Timestamp((seconds * 1_000).cast_signed() + i64::from(nanoseconds / 1_000_000));
        assert!(first_id_at(made) <= id);
        assert!(id < first_id_at(made.plus_ms(1)));
    }
}
