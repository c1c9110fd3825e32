import { api, data, readAll } from '../../api/client';
import { me } from '../me.svelte';

/** Names of members and of API keys by their id, as far as the caller may see them. */
export const peopleQuery = () => ({
  queryKey: ['members', 'names'],
  staleTime: 60_000,
  queryFn: async (): Promise<Map<string, string>> => {
    const [members, keys] = await Promise.all([
      me.can('members:read') ? readAll((cursor) => data(api.GET('/api/members', { params: { query: { limit: 200, cursor } } })), 2_000) : [],
      me.can('api_keys:read') ? readAll((cursor) => data(api.GET('/api/keys', { params: { query: { limit: 200, cursor } } })), 2_000) : [],
    ]);
    const all = [...members.map((item) => ({ ...item, more: item.email })), ...keys.map((item) => ({ ...item, more: `${item.prefix}…` }))];
    // Two with the same name must look different.
    const isTwice = (name: string): boolean => all.filter((item) => item.name === name).length > 1;
    return new Map(all.map((item) => [item.id, isTwice(item.name) ? `${item.name} (${item.more})` : item.name]));
  },
});

/** The name of who asked for something. Who has left is known by the start of an id. */
export const nameOf = (people: Map<string, string> | undefined, principal: string): string =>
  people?.get(principal) ?? (principal === me.view?.id ? me.view.name : principal.slice(0, 8));

/** Who else may vouch for a person; everybody may ask. */
export const providersQuery = () => ({ queryKey: ['sign-in-providers'], staleTime: 300_000, queryFn: () => data(api.GET('/api/auth/oidc/providers')) });

/** What the person signs in with at providers. */
export const identitiesQuery = () => ({ queryKey: ['identities'], queryFn: () => data(api.GET('/api/me/identities')) });
