import type { Schemas } from '../api/client';

export type Kind = Schemas['IntegrationKind'];
/** Of PagerDuty or Datadog. */
export type Site = NonNullable<Schemas['IntegrationSettings']['site']>;
export type EventType = Schemas['CreateIntegration']['event_types'][number];

export const KINDS: Kind[] = ['webhook', 'slack', 'discord', 'teams', 'pagerduty', 'datadog', 'splunk', 'email'];

export const EVENT_TYPES: EventType[] = [
  'job.failed', 'job.succeeded', 'job.cancelled', 'rollout.halted', 'agent.offline', 'agent.online', 'agent.enrolled', 'identity.alert',
  'schedule.failed', 'schedule.recovered', 'schedule.missed', 'schedule.stopped', 'schedule.unusual_duration',
  'alert.opened', 'alert.resolved', 'key.expiring', 'certificate.expiring', 'update.rolled_back', 'approval.requested',
];

/** The events that are chosen at first. */
export const FIRST_TYPES: EventType[] = ['job.failed', 'rollout.halted', 'agent.offline', 'identity.alert', 'schedule.failed', 'approval.requested'];

/** Which settings a kind has. */
export const FIELDS: Record<Kind, ('url' | 'key' | 'site' | 'to')[]> = {
  webhook: ['url'],
  slack: ['url'],
  discord: ['url'],
  teams: ['url'],
  pagerduty: ['key', 'site'],
  datadog: ['key', 'site'],
  splunk: ['url', 'key'],
  email: ['to'],
};

/** The circuit: after failures nothing is sent until a time, then one message is tried. */
export type Circuit = 'disabled' | 'failing' | 'active';
export const circuitOf = (view: Schemas['IntegrationView']): Circuit => (!view.is_enabled ? 'disabled' : view.failing_since ? 'failing' : 'active');
