import { api, data } from '../api/client';
import { me } from './me.svelte';

/** Names of members and of API keys by their id, as far as the caller may see them. */
export const peopleQuery = () => ({
  queryKey: ['members', 'names'],
  staleTime: 60_000,
  queryFn: async (): Promise<Map<string, string>> => {
    const query = { params: { query: { limit: 200 } } };
    const [members, keys] = await Promise.all([
      me.can('members:read') ? data(api.GET('/api/members', query)) : undefined,
      me.can('api_keys:read') ? data(api.GET('/api/keys', query)) : undefined,
    ]);
    return new Map([...(members?.items ?? []), ...(keys?.items ?? [])].map((item) => [item.id, item.name]));
  },
});

/** Who else may vouch for a person; everybody may ask. */
export const providersQuery = () => ({ queryKey: ['sign-in-providers'], staleTime: 300_000, queryFn: () => data(api.GET('/api/auth/oidc/providers')) });
