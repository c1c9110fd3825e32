import { api, data, readAll, type Schemas } from '../../api/client';
import type { AnyState } from '../../components/states';
import type { AssignedAgent } from '../assignments/queries';

export type Service = Schemas['ServiceView'];
export type ServiceState = Schemas['ServiceStateView'];
export type ServiceAction = 'start' | 'stop' | 'restart';

/** Most assignments of a tenant, of which services are some. */
const MAX_SERVICES = 100;
/** Agents of one service that are read; the server counts all of them. */
export const MAX_AGENTS = 2_000;
/**
 * Starts and ends of runs are events; what hosts report about services has none. What is on the screen is read again so
 * often: while a host changes something, while none does, and for more agents than one answer has.
 */
const READ_CHANGES_MS = 1_000;
const READ_AGAIN_MS = 5_000;
const READ_MANY_AGAIN_MS = 30_000;
const MANY_AGENTS = 500;
const CHANGES = ['waiting', 'stopping', 'backoff'];
const readAgainMs = (agents: readonly AssignedAgent[] | undefined): number =>
  (agents?.length ?? 0) > MANY_AGENTS ? READ_MANY_AGAIN_MS : agents?.some((agent) => agent.is_connected && CHANGES.includes(agent.service?.state ?? 'waiting')) ? READ_CHANGES_MS : READ_AGAIN_MS;

export const servicesQuery = (isEnabled = true) => ({
  queryKey: ['services', 'all'],
  enabled: isEnabled,
  refetchInterval: READ_AGAIN_MS,
  queryFn: (): Promise<Service[]> => readAll((cursor) => data(api.GET('/api/services', { params: { query: { cursor, limit: 500 } } })), MAX_SERVICES),
});

/** The agents of a service, with what each has reported. */
export const serviceAgentsQuery = (id: string) => ({
  queryKey: ['services', id, 'agents'],
  refetchInterval: ({ state }: { state: { data?: AssignedAgent[] | undefined } }): number => readAgainMs(state.data),
  queryFn: (): Promise<AssignedAgent[]> => readAll((cursor) => data(api.GET('/api/assignments/{id}/agents', { params: { path: { id }, query: { cursor, limit: 500 } } })), MAX_AGENTS),
});

export const control = (id: string, action: ServiceAction, body: Schemas['ControlService']): Promise<Schemas['ControlledService']> => data(api.POST(`/api/services/{id}/${action}`, { params: { path: { id } }, body }));

/** What needs a person first. The names are those of marks: a service that a person stopped is not one that failed. */
export const STATES = ['failed', 'backoff', 'service_waiting', 'stopping', 'wanted', 'downloading', 'running', 'service_stopped', 'service_ended'] as const;
export type ShownState = (typeof STATES)[number];

const SHOWN = new Map<string, ShownState>(Object.entries({ waiting: 'service_waiting', running: 'running', stopping: 'stopping', backoff: 'backoff', stopped: 'service_stopped', ended: 'service_ended' }));
/** The state of a service by its name in the API; a newer server may report another one. */
export const shownState = (state: string): ShownState => SHOWN.get(state) ?? 'wanted';

/** What an agent does with a service; one that has not reported it may have the package, or fail to get it. */
export function stateOfAgent(agent: Pick<AssignedAgent, 'state' | 'service'>): ShownState {
  if (agent.service) return shownState(agent.service.state);
  return agent.state === 'failed' || agent.state === 'downloading' ? agent.state : 'wanted';
}

const HEALTH = new Map<string, AnyState>(Object.entries({ unknown: 'unchecked', healthy: 'healthy', failing: 'failing' }));
export const healthOf = (service: Pick<ServiceState, 'health'> | null | undefined): AnyState | undefined => (service?.health ? HEALTH.get(service.health) : undefined);

/** Only of a run that is over: how it ended, as executions end. */
const OUTCOMES = ['succeeded', 'failed', 'timed_out', 'cancelled', 'aborted', 'expired', 'rejected', 'lost', 'skipped'] as const;
export const outcomeOf = (service: Pick<ServiceState, 'last_outcome'> | null | undefined): AnyState | undefined => OUTCOMES.find((state) => state === service?.last_outcome);

/** By urgency; names in their order within a state. */
export function byUrgency(agents: readonly AssignedAgent[]): AssignedAgent[] {
  const names = new Intl.Collator(undefined, { numeric: true });
  const urgency = new Map(agents.map((agent) => [agent, STATES.indexOf(stateOfAgent(agent))]));
  return [...agents].sort((a, b) => urgency.get(a)! - urgency.get(b)! || names.compare(a.agent_name, b.agent_name) || a.agent_id.localeCompare(b.agent_id));
}

/** Which of these make sense in a state. */
export function actionsIn(state: ShownState): ServiceAction[] {
  if (state === 'service_stopped') return ['start'];
  if (state === 'service_ended') return ['restart'];
  return ['restart', 'stop'];
}

/** Where the dashboard shows an assignment: services have a page of their own. */
export const addressOf = (assignment: { id: string; kind: string }): string => `/library/${assignment.kind === 'service' ? 'services' : 'assignments'}/${assignment.id}`;
