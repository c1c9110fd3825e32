/** Steps of a run, as the API and as forms have them. */
import type { Schemas } from '../../api/client';
import { parsePairs, showPairs } from '../../integrations/pairs';
import { join, split } from '../jobs/argv';

export type Step = Schemas['StepView'];
export type StepState = NonNullable<Step['state']>;
type Requested = Partial<Pick<Schemas['StepBody'], 'name' | 'script' | 'argv' | 'parameters' | 'secrets' | 'timeout_ms' | 'on_failure'>>;

export const MAX_STEPS = 20;
export const STEP_NAME_CHARS = 64;
export const STEP_STATES: readonly StepState[] = ['succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'unknown', 'running'];

/** A step as a form has it: texts. */
export interface StepDraft {
  /** Keeps the fields of a step together when it moves. */
  key: number;
  name: string;
  mode: 'script' | 'argv';
  script: string;
  argv: string;
  /** `NAME=value` lines. */
  parameters: string;
  /** Names of secret parameters, with spaces between them. */
  secrets: string;
  minutes: string;
  continues: boolean;
}

let made = 0;
export const newStep = (): StepDraft => ({ key: (made += 1), name: '', mode: 'script', script: '', argv: '', parameters: '', secrets: '', minutes: '', continues: false });

export const draftsOf = (steps: readonly Requested[] | null | undefined): StepDraft[] =>
  (steps ?? []).map((step) => ({
    ...newStep(),
    name: step.name ?? '',
    mode: step.argv?.length ? 'argv' : 'script',
    script: step.script ?? '',
    argv: join(step.argv ?? []),
    parameters: showPairs(step.parameters as Record<string, string> | null | undefined),
    secrets: (step.secrets ?? []).join(' '),
    minutes: step.timeout_ms ? String(step.timeout_ms / 60_000) : '',
    continues: step.on_failure === 'continue',
  }));

const namesOf = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);

export const stepsOf = (drafts: readonly StepDraft[]): Schemas['StepBody'][] =>
  drafts.map((draft) => {
    const parameters = parsePairs(draft.parameters);
    const secrets = namesOf(draft.secrets);
    return {
      ...(draft.name.trim() ? { name: draft.name.trim() } : {}),
      ...(draft.mode === 'script' ? { script: draft.script.trim() } : { argv: split(draft.argv) }),
      ...(draft.mode === 'script' && Object.keys(parameters).length ? { parameters } : {}),
      ...(secrets.length ? { secrets } : {}),
      ...(Number(draft.minutes) > 0 ? { timeout_ms: Math.round(Number(draft.minutes) * 60_000) } : {}),
      ...(draft.continues ? { on_failure: 'continue' as const } : {}),
    } as Schemas['StepBody'];
  });

/** True if both send the same steps. */
export const sameSteps = (one: readonly StepDraft[], other: readonly StepDraft[]): boolean => JSON.stringify(stepsOf(one)) === JSON.stringify(stepsOf(other));

/** What runs in a step. */
export const workOf = (step: Pick<Requested, 'script' | 'argv'>): string => step.script || step.argv?.join(' ') || '–';
/** How people call a step. */
export const titleOfStep = (step: Pick<Requested, 'name' | 'script' | 'argv'>): string => step.name || workOf(step);

/** The number of the first step that has no work yet, counted from 1. */
export const firstIncomplete = (drafts: readonly StepDraft[]): number | undefined => {
  const at = drafts.findIndex((draft) => (draft.mode === 'script' ? !draft.script.trim() : split(draft.argv).length === 0));
  return at < 0 ? undefined : at + 1;
};

/** Secrets that are given and that no step gets, and those that a step names without a value. */
export function secretMistakes(drafts: readonly StepDraft[], given: readonly string[]): { unused: string[]; missing: string[] } {
  const named = new Set(drafts.flatMap((draft) => namesOf(draft.secrets)));
  return { unused: given.filter((name) => !named.has(name)), missing: [...named].filter((name) => !given.includes(name)) };
}

/** The steps of an address; an address that makes no sense has none. */
export function readSteps(text: string | null): StepDraft[] {
  try {
    const found: unknown = JSON.parse(text ?? '');
    return Array.isArray(found) ? draftsOf(found.filter((step) => typeof step === 'object' && step !== null).slice(0, MAX_STEPS) as Requested[]) : [];
  } catch {
    return [];
  }
}

export interface StepSummary {
  step: Requested;
  counts: [StepState, number][];
  /** The shortest and the longest, of steps that ran. */
  durations: [number, number] | undefined;
  /** Numbers of the executions in which it did not succeed and was not skipped. */
  failed: number[];
}

/** Each step of a job over all of its executions. */
export function summarize(steps: readonly Requested[], executions: readonly { steps?: Step[] | undefined }[]): StepSummary[] {
  return steps.map((step, number) => {
    const own = executions.map((execution) => execution.steps?.[number]);
    const took = own.flatMap((found) => (typeof found?.duration_ms === 'number' && found.state !== 'skipped' ? [found.duration_ms] : []));
    return {
      step,
      counts: STEP_STATES.flatMap((state) => {
        const count = own.filter((found) => found?.state === state).length;
        return count ? [[state, count] as [StepState, number]] : [];
      }),
      durations: took.length ? [Math.min(...took), Math.max(...took)] : undefined,
      failed: own.flatMap((found, i) => (found?.state === 'failed' || found?.state === 'timed_out' ? [i] : [])),
    };
  });
}
