import { type ApiProblem, problemOf } from './problem';
import { fetchSignedIn, requireFactor } from './session';
import { EventParser, type ServerEvent } from './sse';

export type StreamStatus = 'connecting' | 'open' | 'waiting';

export interface StreamOptions {
  url: string;
  lastEventId?: string;
  onEvent: (event: ServerEvent) => void;
  onStatus?: (status: StreamStatus) => void;
  /** An answer that no repeat changes, such as 404. The stream has ended. */
  onRefused?: (problem: ApiProblem) => void;
}

const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 10_000;
/** The server sends a sign of life every 15 seconds; without any the connection is dead, as after sleep. */
const SILENCE_MS = 40_000;

/**
 * Follows a live resource until `close`. It reconnects with the id of the last event, so that no event is
 * lost or comes twice.
 */
export class LiveStream {
  #options: StreamOptions;
  #lastId: string;
  #closed = false;
  #attempt: AbortController | undefined;
  #wake: (() => void) | undefined;
  readonly #retryNow = (): void => this.#wake?.();
  /** A connection of the lost network would be silent for long; a server on this machine is reached again at once. */
  readonly #reconnect = (): void => this.#attempt?.abort();

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#lastId = options.lastEventId ?? '';
    addEventListener('online', this.#retryNow);
    addEventListener('offline', this.#reconnect);
    void this.#run();
  }

  close(): void {
    this.#closed = true;
    removeEventListener('online', this.#retryNow);
    removeEventListener('offline', this.#reconnect);
    this.#attempt?.abort();
    this.#wake?.();
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closed) {
      this.#options.onStatus?.('connecting');
      const outcome = await this.#connect(() => (failures = 0));
      if (outcome === 'refused' || this.#closed) return;
      this.#options.onStatus?.('waiting');
      const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** failures) * (0.75 + Math.random() / 2);
      failures += 1;
      await this.#pause(delay);
    }
  }

  async #connect(onOpen: () => void): Promise<'ended' | 'refused'> {
    const attempt = new AbortController();
    this.#attempt = attempt;
    let watchdog = setTimeout(() => attempt.abort(), SILENCE_MS);
    try {
      const headers: Record<string, string> = { accept: 'text/event-stream' };
      if (this.#lastId) headers['last-event-id'] = this.#lastId;
      const response = await fetchSignedIn(this.#options.url, { headers, signal: attempt.signal, cache: 'no-store' });
      if (!response.ok || !response.body) {
        const problem = await problemOf(response);
        if (problem.code === 'second_factor_required') requireFactor();
        if (problem.isPassing) return 'ended';
        this.#options.onRefused?.(problem);
        return 'refused';
      }
      onOpen();
      this.#options.onStatus?.('open');
      const parser = new EventParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.#closed) return 'ended';
        clearTimeout(watchdog);
        watchdog = setTimeout(() => attempt.abort(), SILENCE_MS);
        for (const event of parser.push(value)) {
          if (event.id) this.#lastId = event.id;
          this.#options.onEvent(event);
        }
      }
    } catch {
      return 'ended';
    } finally {
      clearTimeout(watchdog);
      attempt.abort();
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
