import { ApiProblem, problemOf, unreachable } from '../../api/problem';
import { router } from '../../router/router.svelte';

/** What a link carries behind `#`, which browsers send to no server. It leaves the address at once. */
export function takeLink(): URLSearchParams {
  const link = new URLSearchParams(location.hash.slice(1));
  if (link.has('token')) router.go(location.pathname + location.search, { replace: true });
  return link;
}
export const takeToken = (): string => takeLink().get('token') ?? '';

/** Sends a request that a token allows instead of a session. */
export async function sendWithToken<T>(path: string, token: string, body: object): Promise<T | undefined> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token.trim()}` };
  let answer: Response;
  try {
    answer = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body) });
  } catch (error) {
    // A token with characters that no header may have is as wrong as any other.
    throw /ISO-8859-1|header/i.test(String(error)) ? new ApiProblem(401, undefined) : unreachable();
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer.status === 204 ? undefined : ((await answer.json()) as T);
}
