import { api, data } from '../../api/client';

/** When parts of an output were received: each holds until the next one. */
export class Times {
  #marks = $state.raw<{ offset: number; at: string }[]>([]);
  #timer: ReturnType<typeof setTimeout> | undefined;
  error = $state.raw<unknown>();

  /** The time of the byte, if one is known. */
  at(byte: number): string | undefined {
    let [low, high] = [0, this.#marks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#marks[middle]!.offset <= byte) low = middle + 1;
      else high = middle;
    }
    return this.#marks[low - 1]?.at;
  }

  /** Reads what is not known yet from this byte on, at most once a second. */
  load(id: string, from: number): void {
    this.#timer ??= setTimeout(() => void this.#read(id, from), this.#marks.length ? 1_000 : 0);
  }
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#marks = [];
    this.error = undefined;
  }

  async #read(id: string, first: number): Promise<void> {
    const timer = this.#timer;
    const marks = [...this.#marks];
    // The last one is read again: it shows where the next one follows.
    let from: number | null | undefined = marks.at(-1)?.offset ?? first;
    try {
      while (from !== null && from !== undefined) {
        const page: { items: { offset_bytes: number; received_at: string }[]; next_from_bytes?: number | null } = await data(api.GET('/api/executions/{id}/output/times', { params: { path: { id }, query: { from_bytes: from } } }));
        for (const item of page.items) if (item.offset_bytes > (marks.at(-1)?.offset ?? -1)) marks.push({ offset: item.offset_bytes, at: item.received_at });
        from = page.next_from_bytes;
      }
    } catch (caught) {
      if (this.#timer === timer) this.error = caught;
      return;
    }
    if (this.#timer !== timer) return;
    this.#timer = undefined;
    this.#marks = marks;
  }
}
