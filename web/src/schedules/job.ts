/** The job of a schedule, as its form has it. */
import type { Schemas } from '../api/client';
import { asSize, join, split } from '../commands/jobs/argv';
import { type OfflineDraft, offlineOf, offlinePart, type RetryDraft, retryDraftOf, retryPart } from '../commands/jobs/options';
import { draftsOf, newStep, sameSteps, type StepDraft, stepsOf } from '../commands/steps/steps';
import { plainTarget } from '../fleet/plainTarget';
import { expressionOf } from '../fleet/target';
import { parsePairs, showPairs } from '../integrations/pairs';

export type ScheduledJob = Schemas['ScheduledJob'];

export interface JobDraft extends RetryDraft {
  mode: 'script' | 'argv' | 'steps';
  script: string;
  argv: string;
  steps: StepDraft[];
  parameters: string;
  target: string;
  waves: string;
  offline: OfflineDraft;
}

export const draftOfJob = (job: ScheduledJob): JobDraft => ({
  mode: job.steps?.length ? 'steps' : job.argv ? 'argv' : 'script',
  script: job.script ?? '',
  argv: join(job.argv ?? []),
  steps: job.steps?.length ? draftsOf(job.steps) : [newStep()],
  parameters: showPairs(job.parameters as Record<string, string> | null | undefined),
  target: expressionOf(job.target),
  waves: String(job.rollout?.wave_size ?? ''),
  offline: offlineOf(job),
  ...retryDraftOf(job),
});

/** True if the form asks for another job than the stored one: the server then wants the secrets again. */
export function isOtherJob(draft: JobDraft, before: ScheduledJob): boolean {
  const stored = draftOfJob(before);
  const work = { script: ['script', 'parameters'] as const, argv: ['argv'] as const, steps: [] }[draft.mode];
  const isOther = draft.mode !== stored.mode || draft.offline !== stored.offline || (draft.mode === 'steps' && !sameSteps(draft.steps, stored.steps));
  return isOther || [...work, 'target' as const, 'waves' as const, 'retries' as const, 'backoff' as const, 'lock' as const].some((field) => draft[field].trim() !== stored[field].trim());
}

/** The job to send. It keeps what the form does not show. */
export function jobOf(draft: JobDraft, before: ScheduledJob | undefined, bound: number | undefined, hasSecrets: boolean): ScheduledJob {
  const parameters = parsePairs(draft.parameters);
  const { rollout: ofWaves, ...offline } = offlinePart(draft.offline, draft.waves !== '');
  const { offline: _before, ...rollout } = before?.rollout ?? { wave_size: 1 };
  const isKept = before !== undefined && draft.target === expressionOf(before.target) && (!hasSecrets || before.target.expression === undefined);
  return {
    ...(before?.timeout_ms ? { timeout_ms: before.timeout_ms } : {}),
    ...(before?.expires_in_ms ? { expires_in_ms: before.expires_in_ms } : {}),
    ...retryPart(draft),
    ...(bound ? { confirm_agent_count: bound } : {}),
    ...offline,
    ...{ script: () => ({ script: draft.script }), argv: () => ({ argv: split(draft.argv) }), steps: () => ({ steps: stepsOf(draft.steps) }) }[draft.mode](),
    target: isKept ? before.target : ((hasSecrets ? plainTarget(draft.target) : undefined) ?? { expression: draft.target.trim() }),
    ...(draft.mode === 'script' && Object.keys(parameters).length ? { parameters } : {}),
    ...(draft.waves ? { rollout: { ...rollout, ...ofWaves, wave_size: asSize(draft.waves) } } : {}),
  } as ScheduledJob;
}
