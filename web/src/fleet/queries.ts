import { api, data, readAll, type Schemas } from '../api/client';

export type Agent = Schemas['AgentView'];

/** All agents of the tenant: the list is filtered and sorted in the browser. */
export const agentsQuery = () => ({
  queryKey: ['agents', 'all'],
  queryFn: (): Promise<Agent[]> => readAll((cursor) => data(api.GET('/api/agents', { params: { query: { limit: 500, cursor } } }))),
});

export const agentQuery = (id: string) => ({
  queryKey: ['agents', id],
  queryFn: () => data(api.GET('/api/agents/{id}', { params: { path: { id } } })),
});

export const scriptsQuery = (id: string) => ({
  queryKey: ['agent-scripts', id],
  queryFn: () => data(api.GET('/api/agents/{id}/scripts', { params: { path: { id } } })),
  retry: false,
});

/** What a host reports about itself. */
export const agentFactsQuery = (id: string) => ({
  queryKey: ['agent-facts', id],
  queryFn: () => data(api.GET('/api/agents/{id}/facts', { params: { path: { id } } })),
});

/** Names of the facts that hosts report, the most common first. */
export const factNamesQuery = () => ({
  queryKey: ['agent-facts', 'names'],
  queryFn: async (): Promise<string[]> => (await data(api.GET('/api/facts', {}))).items.map((item) => item.name),
});

/** The facts of these names of all agents, by the id of the agent. */
export const fleetFactsQuery = (names: readonly string[]) => ({
  queryKey: ['agent-facts', 'fleet', names.join(',')],
  enabled: names.length > 0,
  refetchInterval: 60_000,
  queryFn: async (): Promise<ReadonlyMap<string, NonNullable<Agent['facts']>>> => {
    const agents = await readAll((cursor) => data(api.GET('/api/agents', { params: { query: { limit: 500, cursor, facts: names.join(',') } } })));
    return new Map(agents.map((agent) => [agent.id, agent.facts ?? {}]));
  },
});
