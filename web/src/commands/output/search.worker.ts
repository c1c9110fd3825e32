/** Finds text in the lines of an output, beside the page, which stays smooth with millions of lines. */
import type { Line } from './output';
import { plain } from './output';

export type ToSearch = { kind: 'lines'; lines: Line[] } | { kind: 'find'; id: number; text: string };
export interface FromSearch {
  id: number;
  hits: Int32Array<ArrayBuffer>;
  searched: number;
}

const lines: string[] = [];
let wanted = { id: 0, text: '' };
let hits: number[] = [];
let searched = 0;
let timer: ReturnType<typeof setTimeout> | undefined;
/** Lines between two looks at what the page wants now. */
const STEP = 50_000;

function go(): void {
  timer = undefined;
  if (!wanted.text) return;
  const until = Math.min(lines.length, searched + STEP);
  for (; searched < until; searched += 1) if (lines[searched]!.includes(wanted.text)) hits.push(searched);
  const found = Int32Array.from(hits);
  postMessage({ id: wanted.id, hits: found, searched } satisfies FromSearch, { transfer: [found.buffer] });
  plan();
}
function plan(): void {
  if (wanted.text && searched < lines.length) timer ??= setTimeout(go, 0);
}

addEventListener('message', ({ data }: MessageEvent<ToSearch>) => {
  if (data.kind === 'lines') for (const line of data.lines) lines.push(plain(line).toLowerCase());
  else {
    wanted = { id: data.id, text: data.text.toLowerCase() };
    hits = [];
    searched = 0;
  }
  plan();
});
