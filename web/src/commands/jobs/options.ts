/** Retries, the lock and the standard input of a job, as forms have them. */
import type { Schemas } from '../../api/client';

const MAX_RETRIES = 10;
/** The longest pause between two attempts. */
const MAX_PAUSE_MS = 3_600_000;
const DEFAULT_PAUSE_MS = 10_000;
export const MAX_INPUT_BYTES = 262_144;
/** For all agents of a job together. */
export const MAX_INPUT_BYTES_OF_ALL = 64 * 1024 * 1024;
/** What the fields accept, as the attribute `pattern`: 0 to 10; seconds; the name of a lock. */
export const RETRIES_PATTERN = '[0-9]|10';
export const PAUSE_PATTERN = '[0-9]{1,4}([.][0-9]+)?';
export const LOCK_PATTERN = '[A-Za-z0-9._\\-]+';

/** What the fields have: texts. */
export interface RetryDraft {
  retries: string;
  /** Seconds before the first retry. */
  backoff: string;
  lock: string;
}

export const retryDraftOf = (work: { retries?: Schemas['RetrySpec'] | null | undefined; lock?: string | null | undefined }): RetryDraft => ({
  retries: work.retries ? String(work.retries.count) : '',
  backoff: work.retries?.backoff_ms === undefined ? '' : String(work.retries.backoff_ms / 1_000),
  lock: work.lock ?? '',
});

/** The part of a job that the fields decide; a pause without retries is none. */
export function retryPart(draft: RetryDraft): Pick<Schemas['ScheduledJob'], 'retries' | 'lock'> {
  const count = Number(draft.retries);
  return {
    ...(count > 0 ? { retries: { count, ...(draft.backoff.trim() ? { backoff_ms: Math.round(Number(draft.backoff) * 1_000) } : {}) } } : {}),
    ...(draft.lock.trim() ? { lock: draft.lock.trim() } : {}),
  };
}

/** What a run does about agents that are offline: `last_wave` only in waves. */
export type OfflineDraft = Schemas['OfflinePolicy'] | 'last_wave';
export const offlineChoices = (hasWaves: boolean): OfflineDraft[] => (hasWaves ? ['wait', 'last_wave', 'skip', 'fail'] : ['wait', 'skip', 'fail']);

export const offlineOf = (work: { offline?: Schemas['OfflinePolicy'] | undefined; rollout?: Pick<Schemas['RolloutSpec'], 'offline'> | null | undefined }): OfflineDraft => work.rollout?.offline ?? work.offline ?? 'wait';

/** The parts of the job and of its waves that say it. */
export function offlinePart(policy: OfflineDraft, hasWaves: boolean): { offline?: 'skip' | 'fail'; rollout?: { offline: 'skip' | 'last_wave' } } {
  if (policy === 'fail') return { offline: 'fail' };
  if (policy === 'wait' || (policy === 'last_wave' && !hasWaves)) return {};
  return hasWaves ? { rollout: { offline: policy } } : policy === 'skip' ? { offline: 'skip' } : {};
}

/** The pauses before the retries: each is twice the one before it. */
export function pauses(retries: Schemas['RetrySpec']): number[] {
  const first = retries.backoff_ms ?? DEFAULT_PAUSE_MS;
  return Array.from({ length: Math.min(retries.count, MAX_RETRIES) }, (_, i) => Math.min(first * 2 ** i, MAX_PAUSE_MS));
}

/** Why input can't be sent; the names are of messages. */
export function inputProblem(bytes: number, agents: number): 'tooLarge' | 'tooLargeForAll' | undefined {
  if (bytes > MAX_INPUT_BYTES) return 'tooLarge';
  return bytes * agents > MAX_INPUT_BYTES_OF_ALL ? 'tooLargeForAll' : undefined;
}

export function toBase64(bytes: Uint8Array): string {
  const PART = 8_192;
  let text = '';
  for (let at = 0; at < bytes.length; at += PART) text += String.fromCharCode(...bytes.subarray(at, at + PART));
  return btoa(text);
}
