//! What leaves for an integration: the event with what is known now, in the form of its kind.

use serde_json::{Value, json};

use super::Webhooks;
use crate::adapters::webhook_client::WebhookMessage;
use crate::domain::fleet::target::facts::{FactNames, Facts};
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, TenantId, WebhookDeliveryId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::formats::{
    EventMessage, datadog, discord, pagerduty, slack, splunk, teams,
};
use crate::domain::integrations::integration::{IntegrationKind, IntegrationSettings};
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::services::integrations::integrations::FIELD;
use crate::services::integrations::template;
use crate::store::entities::access::mail;
use crate::store::entities::integrations::{delivery, integration};
use crate::store::queries::EndedIn;

/// Most messages that one carries.
const MERGED_AT_ONCE: u64 = 200;

/// What an attempt sends.
pub(in crate::services::integrations) enum Outgoing {
    Posts {
        messages: Vec<WebhookMessage>,
        /// Queued messages that these carry too.
        with: Vec<WebhookDeliveryId>,
    },
    Mails {
        mails: Vec<mail::Model>,
        with: Vec<WebhookDeliveryId>,
    },
    /// The target of the integration does not match the agents of the event.
    NotWanted,
}

impl Outgoing {
    /// One request.
    pub fn post(message: WebhookMessage) -> Self {
        Self::Posts { messages: vec![message], with: Vec::new() }
    }
}

impl Webhooks {
    /// What an attempt for an integration sends.
    ///
    /// # Errors
    /// [`ServiceError`] with the reason for the person who set it up.
    pub(super) async fn outgoing(
        &self,
        integration: &integration::Model,
        row: &delivery::Model,
        at: Timestamp,
    ) -> Result<Outgoing> {
        if !self.is_wanted(integration, row).await? {
            return Ok(Outgoing::NotWanted);
        }
        let event = row.event.parse().map_err(|_| ServiceError::NotFound("type of event"))?;
        let data = self.data(row).await?;
        let (others, with) = self.merged(integration, row, event, at).await?;
        let head = (row.id.to_string(), event, row.created_at, row.subject_id.unwrap_or_default());
        let server = self.mails.server();
        let message = EventMessage::new(head, data, &others, row.repeat_count, server.as_deref());
        self.compose(integration, message, at, with).await
    }

    /// A message in the form of a kind.
    ///
    /// # Errors
    /// [`ServiceError`] if the settings can't be opened, a template fails, or no mail can be sent.
    pub(in crate::services::integrations) async fn compose(
        &self,
        integration: &integration::Model,
        mut message: EventMessage,
        at: Timestamp,
        with: Vec<WebhookDeliveryId>,
    ) -> Result<Outgoing> {
        let tenant_id = integration.tenant_id;
        let settings = self.settings(integration)?;
        if let Some(source) = &integration.template {
            let rendered = template::render(source, &message)
                .map_err(|error| ServiceError::invalid_field("template", &error.to_string()))?;
            message.text = Some(rendered);
        }
        let kind = integration.kind;
        let (url, key) = (|path: &str| settings.address(kind, path), settings.key.as_deref());
        let key = key.unwrap_or_default();
        let post = |path: &str, body: &Value| json_post(url(path), body);
        let messages = match kind {
            IntegrationKind::Webhook => {
                let body = message.standard_webhook().to_string().into_bytes();
                vec![self.signed(tenant_id, &url(""), message.id, at, body).await?]
            }
            IntegrationKind::Slack => vec![post("", &slack::format(&message))],
            IntegrationKind::Discord => vec![post("", &discord::format(&message))],
            IntegrationKind::Teams => vec![post("", &teams::format(&message))],
            IntegrationKind::Pagerduty => vec![post("", &pagerduty::format(&message, key))],
            IntegrationKind::Datadog => {
                let with_key = |mut post: WebhookMessage| {
                    post.headers.push(("dd-api-key", key.to_owned()));
                    post
                };
                let metrics = post(datadog::SERIES, &datadog::metrics(&message));
                let event = post(datadog::EVENTS, &datadog::event(&message));
                vec![with_key(event), with_key(metrics)]
            }
            IntegrationKind::Splunk => {
                let mut post = post(splunk::COLLECTOR, &splunk::format(&message));
                post.headers.push(("authorization", format!("Splunk {key}")));
                vec![post]
            }
            IntegrationKind::Email => {
                let mails = self.mails_of(tenant_id, &settings, &message).await?;
                return Ok(Outgoing::Mails { mails, with });
            }
        };
        Ok(Outgoing::Posts { messages, with })
    }

    fn settings(&self, integration: &integration::Model) -> Result<IntegrationSettings> {
        let opened = self.secret_box.open(integration.tenant_id, FIELD, &integration.sealed);
        let unreadable = || ServiceError::Conflict {
            code: "integration_unreadable",
            detail: "the settings were sealed with another master key; set them again".into(),
        };
        let opened = opened.map_err(|_| unreadable())?;
        serde_json::from_slice(&opened).map_err(|_| unreadable())
    }

    /// Mails for the receivers that are still members.
    async fn mails_of(
        &self,
        tenant_id: TenantId,
        settings: &IntegrationSettings,
        message: &EventMessage,
    ) -> Result<Vec<mail::Model>> {
        self.mails.require()?;
        let to = settings.to.clone().unwrap_or_default();
        let to: Vec<_> = to.iter().map(|to| to.to_ascii_lowercase()).collect();
        let members = self.store.tenant(tenant_id).addresses_of_members(to).await?;
        if members.is_empty() {
            return Err(ServiceError::Conflict {
                code: "no_receivers",
                detail: "no receiver is a member of the tenant any more".into(),
            });
        }
        let link = message.link.as_ref().map(|link| format!("\n\n{link}")).unwrap_or_default();
        let text = format!("{}\n\n{}{link}\n", message.title, message.plain_text());
        let subject = format!("[Muster] {}", message.title);
        members.iter().map(|to| self.mails.integration_message(to, &subject, &text)).collect()
    }

    /// True if the target matches an agent of the event. Events without agents are always sent.
    async fn is_wanted(
        &self,
        integration: &integration::Model,
        row: &delivery::Model,
    ) -> Result<bool> {
        let Some(target) = &integration.target else { return Ok(true) };
        let spec: TargetSpec = serde_json::from_str(target).unwrap_or_default();
        let Ok(target) = Target::try_from(spec) else { return Ok(false) };
        let agents = match (agent_of(row), row.job_id) {
            (Some(agent_id), _) => vec![agent_id],
            (None, Some(job_id)) => {
                self.store.tenant(row.tenant_id).agents_of_job(job_id, &EndedIn::Any).await?
            }
            (None, None) => return Ok(true),
        };
        let found = self.facts(row.tenant_id, agents, &target.fact_names()).await?;
        Ok(found.iter().any(|facts| target.matches(facts)))
    }

    async fn facts(
        &self,
        tenant_id: TenantId,
        agents: Vec<AgentId>,
        names: &FactNames,
    ) -> Result<Vec<Facts>> {
        let is_online = |id| self.hub.is_connected(id);
        Ok(self.store.tenant(tenant_id).known_agents(agents, names, is_online).await?)
    }

    /// What was known at the event, with the agent or the job as it is now.
    async fn data(&self, row: &delivery::Model) -> Result<Value> {
        let stored = row.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
        let mut data: Value = stored.unwrap_or_else(|| json!({}));
        if let Some(id) = agent_of(row) {
            let facts = self.facts(row.tenant_id, vec![id], &FactNames::new()).await?.pop();
            data["agent"] = match facts {
                Some(facts) => json!({"id": id, "name": facts.name, "hostname": facts.hostname,
                    "os": facts.os, "version": facts.version, "tags": facts.tags}),
                // It was deleted.
                None => json!({"id": id, "name": null, "hostname": null, "tags": []}),
            };
        }
        if let Some(id) = row.job_id {
            match self.job_payload(row.tenant_id, id, row.created_at).await {
                Ok(payload) => data["job"] = payload.into_job(),
                // It was deleted.
                Err(ServiceError::NotFound(_)) => data["job"] = json!({"id": id}),
                Err(error) => return Err(error),
            }
        }
        data["repeat_count"] = json!(row.repeat_count);
        Ok(data)
    }

    /// The messages of the same type that follow at once, and the names of their agents, for kinds that
    /// take one message for several.
    async fn merged(
        &self,
        integration: &integration::Model,
        row: &delivery::Model,
        event: EventType,
        now: Timestamp,
    ) -> Result<(Vec<String>, Vec<WebhookDeliveryId>)> {
        use EventType::{AgentEnrolled, AgentOffline, AgentOnline};
        let is_merged = matches!(event, AgentOnline | AgentOffline | AgentEnrolled);
        if !is_merged || !integration.kind.merges() {
            return Ok((vec![], vec![]));
        }
        let tenant = self.store.tenant(row.tenant_id);
        let follow = tenant.ready_messages(integration.id, now, MERGED_AT_ONCE).await?;
        let mut names = Vec::new();
        let mut merged = Vec::new();
        for next in follow.into_iter().take_while(|next| next.event == row.event) {
            if self.is_wanted(integration, &next).await? {
                let ids = agent_of(&next).into_iter().collect();
                let facts = self.facts(row.tenant_id, ids, &FactNames::new()).await?.pop();
                names.push(facts.map_or_else(|| "a deleted agent".to_owned(), |facts| facts.name));
            }
            merged.push(next.id);
        }
        Ok((names, merged))
    }
}

fn agent_of(row: &delivery::Model) -> Option<AgentId> {
    let event: EventType = row.event.parse().ok()?;
    match event.resource() {
        "agent" => row.subject_id.map(AgentId),
        // The alert is the subject, and some alerts are of one agent.
        "alert" => {
            let data: Value = serde_json::from_str(row.data.as_deref()?).ok()?;
            serde_json::from_value(data.get("agent_id")?.clone()).ok()
        }
        _ => None,
    }
}

fn json_post(url: String, body: &Value) -> WebhookMessage {
    WebhookMessage { url, headers: Vec::new(), body: body.to_string().into_bytes() }
}
