/**
 * The session of the browser. Its tokens are cookies that no page can read; the access token lives for
 * minutes, and a request that finds it expired is repeated once after a refresh.
 */

const REFRESH = '/api/auth/refresh';
const listeners = new Set<() => void>();
const factorListeners = new Set<() => void>();
/** Counts refreshes of this tab, so that requests that failed together refresh once. */
let generation = 0;

/** Calls `listener` when the server no longer accepts the session. */
export function onSignedOut(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Calls `listener` when the tenant requires a second factor that the person does not have. */
export function onFactorRequired(listener: () => void): () => void {
  factorListeners.add(listener);
  return () => factorListeners.delete(listener);
}
export const requireFactor = (): void => factorListeners.forEach((listener) => listener());

async function refresh(seen: number): Promise<boolean> {
  // One tab at a time: a refresh token works once. The server accepts a repeat for ten seconds.
  return navigator.locks.request('muster-refresh', async () => {
    if (generation !== seen) return true;
    const answer = await fetch(REFRESH, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    if (answer.ok) generation += 1;
    return answer.ok;
  });
}

/** Like `fetch`, with a session that is refreshed as needed. */
export async function fetchSignedIn(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  const again = request.clone();
  const seen = generation;
  const response = await fetch(request);
  if (response.status !== 401 || new URL(request.url).pathname.startsWith('/api/auth/')) return response;
  if (await refresh(seen)) return fetch(again);
  for (const listener of listeners) listener();
  return response;
}
