//! Integrations: where events of a tenant are sent, and what may be set.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use super::event_type::EventType;
use crate::domain::access::people::email::EmailAddress;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, IntegrationId, JobId, PrincipalId, TenantId};
use crate::domain::outbound::{InvalidUrl, OutboundReach, OutboundUrl};
use crate::domain::time::Timestamp;

/// Longest key or token.
pub const MAX_KEY_BYTES: usize = 256;
/// Most receivers of an email integration.
pub const MAX_RECEIVERS: usize = 20;
/// Longest template.
pub const MAX_TEMPLATE_BYTES: usize = 4_096;
/// Longest grace period before an agent counts as offline.
pub const MAX_OFFLINE_AFTER_MS: u64 = 86_400_000;
/// Grace period by default.
pub const DEFAULT_OFFLINE_AFTER_MS: u64 = 60_000;
/// Where PagerDuty takes events: in the US and in Europe.
const PAGERDUTY: [(&str, &str); 2] = [
    ("us", "https://events.pagerduty.com/v2/enqueue"),
    ("eu", "https://events.eu.pagerduty.com/v2/enqueue"),
];
/// The sites of Datadog.
const DATADOG_SITES: [&str; 7] = [
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "datadoghq.eu",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "ddog-gov.com",
];

/// The sites of all kinds of integrations.
pub fn known_sites() -> impl Iterator<Item = &'static str> {
    PAGERDUTY.iter().map(|(site, _)| *site).chain(DATADOG_SITES)
}

/// What receives the events.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum IntegrationKind {
    /// A signed POST by the Standard Webhooks specification.
    Webhook,
    Slack,
    Discord,
    /// An adaptive card for Microsoft Teams.
    Teams,
    /// Events v2 of PagerDuty, which open and resolve incidents.
    Pagerduty,
    /// Events and metrics of Datadog.
    Datadog,
    /// The HTTP event collector of Splunk.
    Splunk,
    /// Mails to members of the tenant.
    Email,
}

/// Where and how an integration sends. Which fields there are depends on the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IntegrationSettings {
    /// Of webhooks, Slack, Discord, Teams and Splunk: where to POST. Never shown again, except its
    /// host. For PagerDuty and Datadog it replaces the provider's own address, for a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The routing key of PagerDuty, the API key of Datadog, or the token of Splunk. Never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `us` or `eu` for PagerDuty; the site of Datadog, such as `datadoghq.eu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Addresses of members of the tenant, for email: 1 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
}

/// Settings that do not fit. The text continues the name of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSettings {
    /// The field of `settings`.
    pub field: &'static str,
    pub problem: String,
}

/// An integration as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationRecord {
    pub id: IntegrationId,
    pub tenant_id: TenantId,
    pub kind: IntegrationKind,
    pub name: String,
    /// Where it sends: a host, or `mail`.
    pub host: String,
    /// Settings that are no secrets.
    pub shown: IntegrationSettings,
    pub event_types: Vec<EventType>,
    pub target: Option<TargetSpec>,
    pub template: Option<String>,
    pub is_enabled: bool,
    pub offline_after_ms: i64,
    /// Since when no message arrives; `None` while the last one did.
    pub failing_since: Option<Timestamp>,
    /// When a failing one is tried next.
    pub retry_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// An event, for every integration of a tenant that takes its type.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegrationEvent {
    pub tenant_id: TenantId,
    pub event: EventType,
    pub at: Timestamp,
    /// The resource that it is about: see [`EventType::resource`].
    pub subject_id: uuid::Uuid,
    pub agent_id: Option<AgentId>,
    pub job_id: Option<JobId>,
    /// What is known of it, an object without secrets.
    pub data: serde_json::Value,
}

impl IntegrationKind {
    /// The name in API and database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// True for kinds that take one message for several agents at once.
    pub fn merges(self) -> bool {
        matches!(self, Self::Slack | Self::Discord | Self::Teams | Self::Email)
    }

    /// True for kinds whose text people read, and a template may replace.
    pub fn has_text(self) -> bool {
        !matches!(self, Self::Webhook)
    }
}

impl IntegrationSettings {
    /// Checks the settings of a kind.
    ///
    /// # Errors
    /// [`InvalidSettings`] names the field.
    pub fn check(
        &self,
        kind: IntegrationKind,
        reach: OutboundReach,
    ) -> Result<(), InvalidSettings> {
        use IntegrationKind as Kind;
        let has_own_url = matches!(kind, Kind::Pagerduty | Kind::Datadog);
        let needs_url = !has_own_url && kind != Kind::Email;
        let needs_key = has_own_url || kind == Kind::Splunk;
        require("url", self.url.is_some(), needs_url, needs_url || has_own_url)?;
        require("key", self.key.is_some(), needs_key, needs_key)?;
        require("site", self.site.is_some(), false, has_own_url)?;
        require("to", self.to.is_some(), kind == Kind::Email, kind == Kind::Email)?;
        if let Some(url) = &self.url {
            check_url(url, reach)?;
        }
        if let Some(key) = &self.key {
            let is_key = (1..=MAX_KEY_BYTES).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_key {
                let problem = format!("must be 1 to {MAX_KEY_BYTES} visible ASCII characters");
                return Err(InvalidSettings { field: "key", problem });
            }
        }
        if let Some(site) = &self.site {
            let known: Vec<&str> = match kind {
                Kind::Pagerduty => PAGERDUTY.iter().map(|(site, _)| *site).collect(),
                _ => DATADOG_SITES.to_vec(),
            };
            if !known.contains(&site.as_str()) {
                let problem = format!("must be one of {}", known.join(", "));
                return Err(InvalidSettings { field: "site", problem });
            }
        }
        if let Some(to) = &self.to {
            let is_list = (1..=MAX_RECEIVERS).contains(&to.len());
            if !is_list || to.iter().any(|to| EmailAddress::parse(to).is_err()) {
                let problem = format!("must be 1 to {MAX_RECEIVERS} email addresses");
                return Err(InvalidSettings { field: "to", problem });
            }
        }
        Ok(())
    }

    /// Where to POST. `path`: of the API, for kinds whose URL has several.
    pub fn address(&self, kind: IntegrationKind, path: &str) -> String {
        let site = self.site.as_deref();
        match (kind, &self.url) {
            (IntegrationKind::Datadog | IntegrationKind::Splunk, Some(url)) => {
                format!("{}{path}", url.trim_end_matches('/'))
            }
            (_, Some(url)) => url.clone(),
            (IntegrationKind::Datadog, None) => {
                format!("https://api.{}{path}", site.unwrap_or(DATADOG_SITES[0]))
            }
            (IntegrationKind::Pagerduty, None) => {
                let known = PAGERDUTY.iter().find(|(known, _)| Some(*known) == site);
                known.unwrap_or(&PAGERDUTY[0]).1.to_owned()
            }
            (_, None) => String::new(),
        }
    }

    /// The host for people, and for the limit of messages to a host at once.
    pub fn host(&self, kind: IntegrationKind) -> String {
        match kind {
            IntegrationKind::Email => "mail".to_owned(),
            kind => OutboundUrl::host_of(&self.address(kind, "/")),
        }
    }

    /// The settings without secrets.
    pub fn shown(&self) -> Self {
        Self { url: None, key: None, site: self.site.clone(), to: self.to.clone() }
    }
}

fn require(
    field: &'static str,
    is_given: bool,
    is_needed: bool,
    is_known: bool,
) -> Result<(), InvalidSettings> {
    let problem = match () {
        () if is_needed && !is_given => "is required for this kind",
        () if is_given && !is_known => "is not a setting of this kind",
        () => return Ok(()),
    };
    Err(InvalidSettings { field, problem: problem.to_owned() })
}

fn check_url(url: &str, reach: OutboundReach) -> Result<OutboundUrl, InvalidSettings> {
    OutboundUrl::parse(url, reach).map_err(|invalid: InvalidUrl| InvalidSettings {
        field: "url",
        problem: invalid.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: Option<&str>, key: Option<&str>, site: Option<&str>) -> IntegrationSettings {
        let text = |text: Option<&str>| text.map(str::to_owned);
        IntegrationSettings { url: text(url), key: text(key), site: text(site), to: None }
    }

    #[test]
    fn each_kind_refuses_what_it_does_not_know_and_names_the_field() {
        use IntegrationKind::{Datadog, Email, Pagerduty, Slack, Splunk};
        let hook = Some("https://hooks.example/x");
        let mails = IntegrationSettings { to: Some(vec!["ada".into()]), ..Default::default() };
        for (kind, settings, field) in [
            (Slack, settings(None, None, None), "url"),
            (Slack, settings(Some("http://hooks.example/x"), None, None), "url"),
            (Slack, settings(Some("https://169.254.169.254/"), None, None), "url"),
            (Slack, settings(hook, Some("key"), None), "key"),
            (Pagerduty, settings(None, None, None), "key"),
            (Pagerduty, settings(None, Some("a b"), None), "key"),
            (Pagerduty, settings(None, Some("key"), Some("mars")), "site"),
            (Splunk, settings(hook, None, None), "key"),
            (Datadog, settings(None, Some("key"), Some("us")), "site"),
            (Email, settings(None, None, None), "to"),
            (Email, mails, "to"),
        ] {
            let found = settings.check(kind, OutboundReach::Public).expect_err("refused");
            assert_eq!(found.field, field, "{kind:?} {settings:?}");
        }
        let eu = settings(None, Some("key"), Some("eu"));
        assert_eq!(eu.check(Pagerduty, OutboundReach::Public), Ok(()));
        assert_eq!(eu.host(Pagerduty), "events.eu.pagerduty.com");
        let datadog = settings(None, Some("key"), Some("datadoghq.eu"));
        assert_eq!(
            datadog.address(Datadog, "/api/v1/events"),
            "https://api.datadoghq.eu/api/v1/events"
        );
        assert_eq!(datadog.shown(), settings(None, None, Some("datadoghq.eu")));
    }
}
