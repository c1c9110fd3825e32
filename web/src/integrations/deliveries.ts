import type { Schemas } from '../api/client';

/** What the receiver answered to an attempt, in one line. */
export const answerOf = (attempt: Pick<Schemas['WebhookAttempt'], 'status' | 'error' | 'response'>): string => [attempt.status ? `HTTP ${attempt.status}` : '', attempt.error ?? '', attempt.response ?? ''].filter(Boolean).join(' · ');
