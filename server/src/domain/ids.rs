//! Ids as types, so that an agent's can't be passed where a key's is meant.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
            /// A new id; ids made later sort later.
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
    /// An agent key: what agents enrol with.
    AgentKeyId
);
id!(
    /// One host's identity, for life.
    AgentId
);
id!(
    /// One instruction for one agent.
    CommandId
);
id!(
    /// What somebody asked for, for however many agents.
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
    /// One message to a webhook, whatever it takes to deliver it.
    DeliveryId
);
id!(
    /// What a tenant's webhooks are signed with.
    WebhookKeyId
);
id!(
    /// A release, as long as it is known here.
    ReleaseId
);
id!(
    /// Agents that are to be of one version.
    GroupId
);
