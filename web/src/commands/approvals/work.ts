import type { Schemas } from '../../api/client';
import { titleOf } from '../queries';

/** Fields of a request that its page shows by themselves. */
const SHOWN = ['script', 'argv', 'parameters', 'secret_parameters', 'timeout_ms', 'version', 'stdin_bytes', 'steps'];

/** Every other field, as text: who approves sees all of it, also what a newer server adds. */
export const otherData = (data: object, shown: readonly string[] = SHOWN): [name: string, value: string][] =>
  Object.entries(data)
    .filter(([name, value]) => !shown.includes(name) && value !== null && value !== undefined)
    .map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]);

/** The steps of a request; hosts have no part in them, and a newer server may add fields. */
export const stepsIn = (data: object): Schemas['RequestedStep'][] => ('steps' in data && Array.isArray(data.steps) ? data.steps : []);

/** What a request is about, in one line. */
export const titleOfRequest = (request: Pick<Schemas['ApprovalView'], 'script' | 'command' | 'data'>): string => {
  const steps = stepsIn(request.data);
  return steps.length || request.script || request.data.argv?.length ? titleOf({ script: request.script ?? null, argv: request.data.argv ?? null, steps }) : request.command;
};
