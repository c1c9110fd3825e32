import { api, data, readAll, type Schemas } from '../../api/client';
import { asSize } from '../../commands/jobs/argv';
import { expressionOf, parse } from '../../fleet/target';
import type { Agent } from '../../fleet/queries';
import { type Package, packageAddress } from '../packages/queries';
import { parseName } from '../queries';

export type Assignment = Schemas['AssignmentView'];
export type AssignedAgent = Schemas['AssignedAgentView'];
export const STATES = ['failed', 'downloading', 'wanted', 'installed'] as const;
export type AssignedState = (typeof STATES)[number];

/** Most assignments of a tenant. */
const MAX_ASSIGNMENTS = 100;

export const assignmentsQuery = (isEnabled = true) => ({
  queryKey: ['assignments', 'all'],
  enabled: isEnabled,
  queryFn: (): Promise<Assignment[]> => readAll((cursor) => data(api.GET('/api/assignments', { params: { query: { cursor, limit: 500 } } })), MAX_ASSIGNMENTS),
});

export const assignmentQuery = (id: string | undefined) => ({
  queryKey: ['assignments', id],
  enabled: id !== undefined,
  queryFn: () => data(api.GET('/api/assignments/{id}', { params: { path: { id: id! } } })),
});

/** All agents of the target, with what they reported; `max` bounds how far the list is read. */
export const assignedAgentsQuery = (id: string, max?: number) => ({
  queryKey: ['assignments', id, 'agents', max ?? 'all'],
  queryFn: (): Promise<AssignedAgent[]> => readAll((cursor) => data(api.GET('/api/assignments/{id}/agents', { params: { path: { id }, query: { cursor, limit: 500 } } })), max),
});

/** The state as the marks know it; a server that is newer may report another one. */
export const stateOf = (agent: Pick<AssignedAgent, 'state'>): AssignedState => STATES.find((state) => state === agent.state) ?? 'wanted';

/** What needs a person first; names in their order within a state. */
export function byUrgency(agents: readonly AssignedAgent[]): AssignedAgent[] {
  const names = new Intl.Collator(undefined, { numeric: true });
  return [...agents].sort((a, b) => STATES.indexOf(stateOf(a)) - STATES.indexOf(stateOf(b)) || names.compare(a.agent_name, b.agent_name) || a.agent_id.localeCompare(b.agent_id));
}

/** Whether the target may match the agent. A target that this page can't read may: the server decides. */
export function mayConcern(assignment: Pick<Assignment, 'target'>, agent: Agent): boolean {
  try {
    return parse(expressionOf(assignment.target))(agent);
  } catch {
    return true;
  }
}

/** Where the dashboard shows the version that is assigned. */
export function contentAddress({ script }: Pick<Assignment, 'script'>): string {
  const named = parseName(script);
  return named ? `/library?${new URLSearchParams({ q: named.name })}` : packageAddress(script);
}

/** Most versions that a form offers. */
const MAX_OFFERED_VERSIONS = 50;
/** The newest versions of a script, the latest first. */
export const versionsOf = ({ latest_version: latest }: { latest_version: number }): number[] => Array.from({ length: Math.min(latest, MAX_OFFERED_VERSIONS) }, (_, before) => latest - before);

/** Packages that hosts can keep and run by themselves: at due times, or all the time. */
export const isAssignable = (item: Pick<Package, 'kind'>): boolean => item.kind === 'task' || item.kind === 'service';

/** How a version is to reach the agents, as a person wrote it; without a size, all at once. */
export interface RolloutInput { size: string; failures: string; healthy: string }

/** Only what is given; the server has the defaults, and refuses what is no number. */
export function rolloutOf(input: RolloutInput): Schemas['AssignmentRolloutBody'] | undefined {
  const [size, failures, healthy] = [input.size.trim(), input.failures.trim(), input.healthy.trim()];
  if (!size) return undefined;
  return { wave_size: asSize(size), ...(failures ? { max_failures: asSize(failures) } : {}), ...(healthy ? { healthy_for_ms: Math.round(Number(healthy) * 1_000) } : {}) };
}
