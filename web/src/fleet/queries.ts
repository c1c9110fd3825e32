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
