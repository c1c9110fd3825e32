/** The job of a schedule, as its form has it. */
import type { Schemas } from '../api/client';
import { asSize, join, split } from '../commands/jobs/argv';
import { type RetryDraft, retryDraftOf, retryPart } from '../commands/jobs/options';
import { expressionOf } from '../fleet/target';
import { parsePairs, showPairs } from '../integrations/pairs';

export type ScheduledJob = Schemas['ScheduledJob'];

export interface JobDraft extends RetryDraft {
  mode: 'script' | 'argv';
  script: string;
  argv: string;
  parameters: string;
  target: string;
  waves: string;
}

export const draftOfJob = (job: ScheduledJob): JobDraft => ({
  mode: job.argv ? 'argv' : 'script',
  script: job.script ?? '',
  argv: join(job.argv ?? []),
  parameters: showPairs(job.parameters as Record<string, string> | null | undefined),
  target: expressionOf(job.target),
  waves: String(job.rollout?.wave_size ?? ''),
  ...retryDraftOf(job),
});

/** True if the form asks for another job than the stored one: the server then wants the secrets again. */
export function isOtherJob(draft: JobDraft, before: ScheduledJob): boolean {
  const stored = draftOfJob(before);
  const work = draft.mode === 'script' ? (['script', 'parameters'] as const) : (['argv'] as const);
  return draft.mode !== stored.mode || [...work, 'target' as const, 'waves' as const, 'retries' as const, 'backoff' as const, 'lock' as const].some((field) => draft[field].trim() !== stored[field].trim());
}

const VALUE = '[A-Za-z0-9._:/\\-+@~]+';
const TAGS = new RegExp(`^tag:${VALUE}(\\s*(&|\\band\\b)\\s*tag:${VALUE})*$`);
const IDS = /^id:[0-9a-fA-F-]{36}(\s*(\||\bor\b)\s*id:[0-9a-fA-F-]{36})*$/;
const values = (text: string, fact: string): string[] => [...text.matchAll(new RegExp(`${fact}:(${VALUE})`, 'g'))].map((match) => match[1]!);

/** The expression as tags or ids, which is what secrets may be sent to; undefined if it says more than these. */
export function plainTarget(expression: string): Schemas['TargetSpec'] | undefined {
  const text = expression.trim();
  if (TAGS.test(text)) return { tags: values(text, 'tag') };
  if (IDS.test(text)) return { ids: values(text, 'id').map((id) => id.toLowerCase()) };
  return undefined;
}

/** The job to send. It keeps what the form does not show. */
export function jobOf(draft: JobDraft, before: ScheduledJob | undefined, bound: number | undefined, hasSecrets: boolean): ScheduledJob {
  const parameters = parsePairs(draft.parameters);
  const isKept = before !== undefined && draft.target === expressionOf(before.target) && (!hasSecrets || before.target.expression === undefined);
  return {
    ...(before?.timeout_ms ? { timeout_ms: before.timeout_ms } : {}),
    ...(before?.expires_in_ms ? { expires_in_ms: before.expires_in_ms } : {}),
    ...retryPart(draft),
    ...(bound ? { confirm_agent_count: bound } : {}),
    ...(draft.mode === 'script' ? { script: draft.script } : { argv: split(draft.argv) }),
    target: isKept ? before.target : ((hasSecrets ? plainTarget(draft.target) : undefined) ?? { expression: draft.target.trim() }),
    ...(draft.mode === 'script' && Object.keys(parameters).length ? { parameters } : {}),
    ...(draft.waves ? { rollout: { ...before?.rollout, wave_size: asSize(draft.waves) } } : {}),
  } as ScheduledJob;
}
