import createClient, { type Middleware } from 'openapi-fetch';
import { problemOf, unreachable } from './problem';
import type { components, paths } from './schema';
import { fetchSignedIn, requireFactor } from './session';

export type Schemas = components['schemas'];

/** Turns every answer that is not a success into an `ApiProblem`. */
const problems: Middleware = {
  async onResponse({ response }) {
    if (response.ok) return;
    const problem = await problemOf(response);
    if (problem.code === 'second_factor_required') requireFactor();
    throw problem;
  },
  onError({ error }) {
    if (error instanceof Error && error.name === 'AbortError') return error;
    return unreachable();
  },
};

/** The API, typed by the server's OpenAPI document. */
export const api = createClient<paths>({ baseUrl: '', fetch: (request) => fetchSignedIn(request) });
api.use(problems);

/** The data of an answer; problems were thrown before. */
export async function data<T>(answer: Promise<{ data?: T }>): Promise<T> {
  return (await answer).data as T;
}

interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

/** Reads a list to its end, and reports each page as it comes. At most `max` items. */
export async function readAll<T>(
  read: (cursor: string | undefined) => Promise<Page<T>>,
  max = 20_000,
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const page = await read(cursor);
    items.push(...page.items);
    cursor = page.next_cursor ?? undefined;
  } while (cursor && items.length < max);
  return items;
}
