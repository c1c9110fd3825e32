//! How domain types are stored in columns. The domain itself does not know the database.

use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr};
use sea_orm::{
    ActiveValue, ColIdx, DbErr, FromJsonQueryResult, IntoActiveValue, QueryResult, TryFromU64,
    TryGetError, TryGetable, Value,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::access::keys::key_limits::KeyLimits;
use crate::domain::access::principal::{ActorKind, Role};
use crate::domain::access::tenants::plan::Plan;
use crate::domain::certificates::client_certificate::CertificateHolder;
use crate::domain::commands::approval::{ApprovalState, PinnedWork, RuleCondition};
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::ladder::Ladder;
use crate::domain::commands::trigger::Trigger;
use crate::domain::fleet::agent::{AgentEventKind, AgentLevel, NameSource, Transport};
use crate::domain::ids::{
    AgentId, AgentKeyId, AlertId, AlertRuleId, ApiKeyId, ApprovalId, ApprovalRuleId, AssignmentId,
    AuditId, CalendarId, CertificateId, CommandId, ContentId, DeviceLoginId, EventId, FileId,
    FireId, GroupId, HookDeliveryId, HookId, IdentityId, IntegrationId, InvitationId, JobId,
    MailId, MemberId, PackageId, PackageSignatureId, PasskeyId, PrincipalId, RegistrationId,
    ReleaseId, ScheduleId, ScriptId, ScriptSignatureId, ScriptVersionId, SessionId, TenantId,
    TokenKeyId, TriggerStateId, UserId, WebhookDeliveryId, WebhookKeyId,
};
use crate::domain::integrations::alert::{AlertEndReason, AlertMetric};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::{IntegrationKind, IntegrationSettings};
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::library::assignment_records::AssignedKind;
use crate::domain::library::assignment_rollout::{RolloutState, ShareState};
use crate::domain::operations::storage::usage::StorageUsage;
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::schedules::fire::{FireReason, FireState, ScheduleState};
use crate::domain::schedules::hook::{HookAuthentication, HookDeliveryState};
use crate::domain::schedules::policy::{MissedPolicy, OverlapPolicy};
use crate::domain::schedules::trigger_call::CallOutcome;
use crate::domain::time::Timestamp;

/// A list of strings, stored as a JSON array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StringList(pub Vec<String>);

/// The limits of an API key, stored as a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StoredLimits(pub KeyLimits);

/// What an approval is for, stored as a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StoredPins(pub PinnedWork);

/// The condition of a rule of approval, stored as a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StoredCondition(pub RuleCondition);

/// The ladder of a tenant, stored as a JSON array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StoredLadder(pub Ladder);

/// What a tenant stores, stored as a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StoredUsage(pub StorageUsage);

/// The types of events that an integration sends, stored as a JSON array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StoredEventTypes(pub Vec<EventType>);

/// Settings of an integration that are no secrets, stored as a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct StoredSettings(pub IntegrationSettings);

/// Stores an enum by the name that `strum` gives it. An unknown name in the database is an error.
macro_rules! text_columns {
    ($($name:ident),+ $(,)?) => {$(
        impl From<$name> for Value {
            fn from(value: $name) -> Self {
                let name: &'static str = value.into();
                name.into()
            }
        }

        impl TryGetable for $name {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                let name = String::try_get_by(row, index)?;
                name.parse().map_err(|source| {
                    TryGetError::DbErr(DbErr::TryIntoErr {
                        from: "String",
                        into: stringify!($name),
                        source: std::sync::Arc::new(source),
                    })
                })
            }
        }

        impl ValueType for $name {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                <String as ValueType>::try_from(value)?.parse().map_err(|_| ValueTypeErr)
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                ArrayType::String
            }

            fn column_type() -> ColumnType {
                ColumnType::Text
            }
        }

        impl Nullable for $name {
            fn null() -> Value {
                Value::String(None)
            }
        }

        impl IntoActiveValue<$name> for $name {
            fn into_active_value(self) -> ActiveValue<$name> {
                ActiveValue::Set(self)
            }
        }
    )+};
}

text_columns!(
    ActorKind,
    AssignedKind,
    RolloutState,
    ShareState,
    AgentEventKind,
    ApprovalState,
    NameSource,
    AgentLevel,
    CertificateHolder,
    CommandState,
    WebhookDeliveryState,
    EndReason,
    CallOutcome,
    FireReason,
    FireState,
    GroupState,
    HookAuthentication,
    HookDeliveryState,
    AlertEndReason,
    AlertMetric,
    IntegrationKind,
    JobState,
    MissedPolicy,
    OverlapPolicy,
    Plan,
    Role,
    ScheduleState,
    Stop,
    Transport,
    Trigger,
    UpdateState,
);

/// Stores a tuple struct as its one field.
macro_rules! newtype_columns {
    ($inner:ty: $($name:ident),+ $(,)?) => {$(
        impl From<$name> for Value {
            fn from(value: $name) -> Self {
                value.0.into()
            }
        }

        impl TryGetable for $name {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                <$inner>::try_get_by(row, index).map($name)
            }
        }

        impl ValueType for $name {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                <$inner as ValueType>::try_from(value).map($name)
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                <$inner as ValueType>::array_type()
            }

            fn column_type() -> ColumnType {
                <$inner as ValueType>::column_type()
            }
        }

        impl Nullable for $name {
            fn null() -> Value {
                <$inner as Nullable>::null()
            }
        }

        impl IntoActiveValue<$name> for $name {
            fn into_active_value(self) -> ActiveValue<$name> {
                ActiveValue::Set(self)
            }
        }

        // A primary key must say whether it can come from a row number. None of ours can.
        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )+};
}

newtype_columns!(Uuid: AgentId, AgentKeyId, AlertId, AlertRuleId, ApiKeyId, ApprovalId, ApprovalRuleId, AssignmentId, AuditId, CalendarId, CertificateId, CommandId, ContentId, DeviceLoginId, EventId, FileId, FireId, GroupId, HookDeliveryId, HookId, IdentityId, IntegrationId, InvitationId, JobId, MailId, MemberId, PackageId, PackageSignatureId, PasskeyId, PrincipalId, RegistrationId, ReleaseId, ScheduleId, ScriptId, ScriptSignatureId, ScriptVersionId, SessionId, TenantId, TokenKeyId, TriggerStateId, UserId, WebhookDeliveryId, WebhookKeyId);
newtype_columns!(i64: Timestamp);

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn stored_names_are_the_names_in_json() {
        macro_rules! check {
            ($($name:ident),+) => {$(
                for value in $name::iter() {
                    let stored = Value::from(value);
                    let json = serde_json::to_value(value).expect("an enum is plain JSON");
                    assert_eq!(stored, json.as_str().expect("a name").into());
                    assert!(<$name as ValueType>::try_from(stored).expect("a known name") == value);
                }
            )+};
        }
        check!(
            ActorKind,
            AgentEventKind,
            ApprovalState,
            NameSource,
            AgentLevel,
            CertificateHolder,
            CommandState,
            WebhookDeliveryState,
            EndReason,
            FireReason,
            FireState,
            GroupState,
            HookAuthentication,
            HookDeliveryState,
            AlertEndReason,
            AlertMetric,
            IntegrationKind,
            JobState,
            MissedPolicy,
            OverlapPolicy,
            Role,
            ScheduleState,
            Stop,
            Transport,
            Trigger,
            UpdateState
        );
        let unknown = <CommandState as ValueType>::try_from("no_such_state".into());
        assert!(unknown.is_err(), "an unknown name is refused");
    }
}
