/** The address of the form that runs something again, with everything that it had. Secrets are typed again. */
import type { Schemas } from '../../api/client';
import { remember } from '../../fleet/selection';
import { expressionOf } from '../../fleet/target';
import { draftOf, transferQuery } from '../../library/files/transfer';
import { draftsOf, stepsOf } from '../steps/steps';
import { join } from './argv';
import { type RetryDraft, retryDraftOf } from './options';

export interface Work {
  script?: string | null | undefined;
  argv?: string[] | null | undefined;
  steps?: Schemas['RequestedStep'][] | undefined;
  file?: Schemas['FileTransferBody'] | null | undefined;
  parameters?: unknown;
  target: Schemas['TargetSpec'];
  rollout?: Schemas['RolloutSpec'] | null | undefined;
  retries?: Schemas['RetrySpec'] | null | undefined;
  lock?: string | null | undefined;
  /** Bytes of standard input, which the server does not give back. */
  stdin_bytes?: number | null | undefined;
}

/** So many ids fit into an address; more are kept in the tab. */
const IDS_IN_ADDRESS = 20;
const isKept = (target: Schemas['TargetSpec']): boolean => (target.ids?.length ?? 0) > IDS_IN_ADDRESS;

export function againAt(work: Work): string {
  const query = new URLSearchParams(isKept(work.target) ? { selection: 'kept' } : { q: expressionOf(work.target) });
  if (work.file) {
    query.set('mode', 'file');
    for (const [name, value] of Object.entries(transferQuery(draftOf(work.script ?? '', work.file)))) if (value) query.set(name, value);
  } else if (work.steps?.length) {
    query.set('mode', 'steps');
    query.set('steps', JSON.stringify(stepsOf(draftsOf(work.steps))));
  } else if (work.argv?.length) {
    query.set('mode', 'argv');
    query.set('argv', join(work.argv));
  } else if (work.script) query.set('script', work.script);
  if (Object.keys((work.parameters as object | null | undefined) ?? {}).length) query.set('parameters', JSON.stringify(work.parameters));
  if (work.rollout) query.set('rollout', JSON.stringify(work.rollout));
  for (const [name, value] of Object.entries(retryDraftOf(work))) if (value) query.set(name, value);
  if (work.stdin_bytes) query.set('input', String(work.stdin_bytes));
  return `/run?${query}`;
}

/** Keeps what the address has no place for. Call it when the address is opened. */
export function keepFor(work: Work): void {
  if (isKept(work.target)) remember(work.target.ids!);
}

function readObject(text: string | null): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(text ?? '');
    return typeof found === 'object' && found !== null && !Array.isArray(found) ? (found as Record<string, unknown>) : {};
  } catch {
    // Addresses are typed and cut off.
    return {};
  }
}

/** The parameters of an address; an address that makes no sense has none. */
export const readParameters = (text: string | null): Record<string, string> => Object.fromEntries(Object.entries(readObject(text)).map(([name, value]) => [name, String(value)]));

/** The waves of an address, if it has some. */
export function readRollout(text: string | null): Schemas['RolloutSpec'] | undefined {
  const found = readObject(text);
  return 'wave_size' in found ? (found as unknown as Schemas['RolloutSpec']) : undefined;
}

/** The retries and the lock of an address. */
export const readRetries = (query: URLSearchParams): RetryDraft => ({ retries: query.get('retries') ?? '', backoff: query.get('backoff') ?? '', lock: query.get('lock') ?? '' });
