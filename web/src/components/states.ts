import type { Schemas } from '../api/client';

export type CommandState = Schemas['CommandState'];
export type JobState = Schemas['JobState'];
export type AnyState =
  | CommandState
  | JobState
  | Schemas['AgentStatus']
  | Schemas['ApprovalState']
  | Schemas['ScheduleState']
  | Schemas['FireState']
  | Schemas['ReleaseState']
  | Schemas['HookDeliveryState']
  | 'failing'
  | 'open'
  | 'resolved'
  | 'silenced'
  | 'wanted'
  | 'unknown'
  | 'step_waiting'
  | 'downloading'
  | 'installed'
  | 'stopping'
  | 'backoff'
  | 'service_waiting'
  | 'service_stopped'
  | 'service_ended'
  | 'unchecked'
  | 'healthy'
  | `certificate_${Schemas['CertificateState']}`
  | 'held';

export type Shape = 'dot' | 'ring' | 'check' | 'cross' | 'dashes' | 'pause' | 'slash' | 'question' | 'hourglass' | 'stop';
export type Tone = 'accent' | 'good' | 'bad' | 'warn' | 'quiet' | 'lost';

/** A state is told by its shape and its word; the colour only repeats it. */
const LOOKS: Record<AnyState, [Shape, Tone]> = {
  online: ['dot', 'good'],
  offline: ['ring', 'quiet'],
  queued: ['dashes', 'quiet'],
  delivered: ['dashes', 'accent'],
  held: ['pause', 'quiet'],
  running: ['dot', 'accent'],
  succeeded: ['check', 'good'],
  failed: ['cross', 'bad'],
  timed_out: ['hourglass', 'bad'],
  cancelled: ['slash', 'quiet'],
  aborted: ['slash', 'bad'],
  expired: ['hourglass', 'warn'],
  rejected: ['stop', 'bad'],
  lost: ['question', 'lost'],
  unknown: ['question', 'lost'],
  step_waiting: ['dashes', 'quiet'],
  awaiting_approval: ['pause', 'warn'],
  paused: ['pause', 'quiet'],
  halted: ['stop', 'warn'],
  pending: ['dashes', 'warn'],
  approved: ['check', 'good'],
  refused: ['cross', 'bad'],
  withdrawn: ['slash', 'quiet'],
  active: ['dot', 'good'],
  disabled: ['pause', 'quiet'],
  stopped: ['stop', 'bad'],
  ended: ['check', 'quiet'],
  waiting: ['dashes', 'quiet'],
  fired: ['check', 'good'],
  skipped: ['slash', 'quiet'],
  failing: ['stop', 'warn'],
  open: ['stop', 'bad'],
  resolved: ['check', 'good'],
  silenced: ['pause', 'warn'],
  wanted: ['dashes', 'quiet'],
  downloading: ['dashes', 'accent'],
  installed: ['check', 'good'],
  stopping: ['dashes', 'warn'],
  backoff: ['hourglass', 'warn'],
  service_waiting: ['dashes', 'warn'],
  service_stopped: ['pause', 'quiet'],
  service_ended: ['check', 'quiet'],
  unchecked: ['question', 'quiet'],
  healthy: ['check', 'good'],
  certificate_valid: ['check', 'good'],
  certificate_due: ['dashes', 'quiet'],
  certificate_expiring: ['hourglass', 'warn'],
  certificate_expired: ['cross', 'bad'],
  certificate_revoked: ['slash', 'quiet'],
  received: ['dashes', 'accent'],
  started: ['check', 'good'],
  ignored: ['slash', 'quiet'],
  draft: ['dashes', 'quiet'],
  published: ['check', 'good'],
};

export const lookOf = (state: AnyState): [Shape, Tone] => LOOKS[state] ?? ['question', 'quiet'];

export const TONE_CLASS: Record<Tone, string> = {
  accent: 'text-accent',
  good: 'text-good',
  bad: 'text-bad',
  warn: 'text-warn',
  quiet: 'text-quiet',
  lost: 'text-lost',
};

const OPEN: readonly string[] = ['queued', 'delivered', 'running'];
export const isOpen = (state: CommandState): boolean => OPEN.includes(state);
const ENDED_JOBS: readonly string[] = ['succeeded', 'failed', 'cancelled', 'aborted'];
export const isJobEnded = (state: JobState): boolean => ENDED_JOBS.includes(state);
/** Ended without success, by something else than a person's wish. */
export const UNSUCCESSFUL: CommandState[] = ['failed', 'timed_out', 'expired', 'rejected', 'lost'];
export const isUnsuccessful = (state: CommandState): boolean => UNSUCCESSFUL.includes(state);
