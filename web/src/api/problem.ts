import type { components } from './schema';

export type ProblemBody = components['schemas']['Problem'];

/** What the server answered instead of what was asked for; `status` 0: it did not answer. */
export class ApiProblem extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly requestId: string | undefined;
  readonly column: number | undefined;
  readonly fields: ProblemBody['errors'];
  readonly retryAfterSeconds: number | undefined;

  constructor(status: number, body: Partial<ProblemBody> | undefined, retryAfter?: string | null) {
    super(body?.detail ?? body?.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = body?.code ?? (status === 0 ? 'unreachable' : 'unknown');
    this.detail = body?.detail ?? body?.title ?? '';
    this.requestId = body?.request_id;
    this.column = body?.column ?? undefined;
    this.fields = body?.errors;
    const seconds = Number(retryAfter);
    this.retryAfterSeconds = retryAfter && Number.isFinite(seconds) ? seconds : undefined;
  }

  /** Whether the same request may be answered later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export const unreachable = (): ApiProblem => new ApiProblem(0, undefined);

export async function problemOf(response: Response): Promise<ApiProblem> {
  const body = (await response.json().catch(() => undefined)) as ProblemBody | undefined;
  return new ApiProblem(response.status, body, response.headers.get('retry-after'));
}
