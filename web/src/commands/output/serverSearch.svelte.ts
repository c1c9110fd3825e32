import { api, data, type Schemas } from '../../api/client';

/** Hits that are shown; who needs more writes more of the text. */
export const SHOWN_HITS = 200;
const PAUSE_MS = 300;

/** A search on the server, in what the page has not loaded. */
export class ServerSearch {
  hits = $state.raw<Schemas['OutputHitView'][]>([]);
  isBusy = $state(false);
  /** There may be more hits than these. */
  isCut = $state(false);
  error = $state.raw<unknown>();
  #turn = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Searches before this byte, once a person pauses to type. */
  find(id: string, text: string, stream: string, until: number): void {
    this.stop();
    if (!text || until <= 0) return;
    this.isBusy = true;
    this.#timer = setTimeout(() => void this.#read(id, text, stream, until, this.#turn), PAUSE_MS);
  }
  stop(): void {
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.hits = [];
    this.isBusy = this.isCut = false;
    this.error = undefined;
  }

  async #read(id: string, text: string, stream: string, until: number, turn: number): Promise<void> {
    let cursor: string | null | undefined;
    try {
      do {
        const page: Schemas['OutputHitsView'] = await data(api.GET('/api/executions/{id}/output/search', { params: { path: { id }, query: { q: text, to_bytes: until, ...(stream === 'stdout' || stream === 'stderr' ? { stream } : {}), ...(cursor ? { cursor } : {}) } } }));
        if (turn !== this.#turn) return;
        this.hits = [...this.hits, ...page.items].slice(0, SHOWN_HITS);
        cursor = page.next_cursor;
        this.isCut = this.hits.length >= SHOWN_HITS;
      } while (cursor && !this.isCut);
    } catch (caught) {
      if (turn === this.#turn) this.error = caught;
    }
    if (turn === this.#turn) this.isBusy = false;
  }
}
