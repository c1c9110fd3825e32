import { startWorker } from '../../api/worker';
import type { OutputLines } from './output';
import type { FromSearch, ToSearch } from './search.worker';

/** Lines that are sent in one message, so that no frame waits long. */
const STEP = 20_000;

/** A search in an output that grows. The worker starts with the first search. */
export class Search {
  hits = $state.raw<Int32Array>(new Int32Array());
  searched = $state(0);
  #worker: Worker | undefined;
  #sent = 0;
  #id = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  find(text: string): void {
    if (!text && !this.#worker) return;
    this.#worker ??= this.#start();
    this.#id += 1;
    this.hits = new Int32Array();
    this.searched = 0;
    this.#worker.postMessage({ kind: 'find', id: this.#id, text } satisfies ToSearch);
  }
  /** Gives new lines to the worker, if there is one. A line that may still grow is not given. */
  feed(output: OutputLines, isEnded: boolean): void {
    if (!this.#worker || this.#timer) return;
    const until = Math.min(isEnded ? output.lines.length : output.settled, this.#sent + STEP);
    if (until <= this.#sent) return;
    this.#worker.postMessage({ kind: 'lines', lines: output.lines.slice(this.#sent, until) } satisfies ToSearch);
    this.#sent = until;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.feed(output, isEnded);
    }, 0);
  }
  /** Whether the line has what is searched. */
  has(line: number): boolean {
    return this.hits[this.#at(line)] === line;
  }
  /** The hit after or before the line, around the ends. */
  next(line: number, by: 1 | -1): number {
    const { length } = this.hits;
    const at = this.#at(line);
    return this.hits[by > 0 ? (this.hits[at] === line ? at + 1 : at) % length : (at - 1 + length) % length]!;
  }
  /** Where along the output the hits are, as parts of a hundred. */
  marks(count: number): number[] {
    const found = new Set<number>();
    for (const hit of this.hits) found.add(Math.floor((hit / Math.max(1, count)) * 200) / 2);
    return [...found];
  }
  stop(): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#sent = 0;
    this.hits = new Int32Array();
  }
  #at(line: number): number {
    let [low, high] = [0, this.hits.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.hits[middle]! < line) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  #start(): Worker {
    const worker = startWorker('search');
    worker.addEventListener('message', ({ data }: MessageEvent<FromSearch>) => {
      if (data.id !== this.#id) return;
      this.hits = data.hits;
      this.searched = data.searched;
    });
    return worker;
  }
}
