/** The lines of an output, from pieces of two streams that arrive in any size. Knows no page. */
import { afterReturns, type Span, type Style, spans } from '../../text/ansi';

export type StreamName = 'stdout' | 'stderr';

export interface Line {
  stream: StreamName;
  raw: string;
  /** The colours that the line before left on. */
  start: Style;
  /** Bytes of both streams before it. */
  at: number;
}

/** Output as the server sends it: text, or bytes that are no text. */
export interface Piece {
  stream: StreamName;
  offset_bytes: number;
  text?: string;
  base64?: string;
}

/** The piece itself, or what of it is before this byte; undefined if nothing is. */
export function untilByte(piece: Piece, end: number): Piece | undefined {
  const room = end - piece.offset_bytes;
  if (room <= 0) return undefined;
  if (piece.text !== undefined) {
    // A character has at most three bytes for each of its units.
    if (piece.text.length * 3 <= room) return piece;
    const bytes = new TextEncoder().encode(piece.text);
    return bytes.length <= room ? piece : { ...piece, text: new TextDecoder().decode(bytes.subarray(0, room)) };
  }
  const raw = atob(piece.base64 ?? '');
  return raw.length <= room ? piece : { ...piece, base64: btoa(raw.slice(0, room)) };
}

/** The longest character. */
const CHARACTER_BYTES = 4;
const isPlain = (text: string): boolean => /^[\u0000-\u007f]*$/.test(text);
/** Bytes of a text in UTF-8. */
function bytesOf(text: string): number {
  let bytes = text.length;
  for (const char of text) bytes += char.length === 2 ? 2 : char > '\u07ff' ? 2 : char > '\u007f' ? 1 : 0;
  return bytes;
}

export class OutputLines {
  readonly lines: Line[] = [];
  /** The first line of stderr. */
  firstError: number | undefined;
  #open: Partial<Record<StreamName, number>> = {};
  #styles: Record<StreamName, Style> = { stdout: {}, stderr: {} };
  #decoders: Record<StreamName, TextDecoder> = { stdout: new TextDecoder(), stderr: new TextDecoder() };

  /** Lines before this one no longer change. */
  get settled(): number {
    return Math.min(this.lines.length, ...Object.values(this.#open));
  }

  /** The line that starts at this byte, if there is one. A first character that came in parts counts from its last one. */
  lineAt(byte: number): number | undefined {
    let [low, high] = [0, this.lines.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.lines[middle]!.at < byte) low = middle + 1;
      else high = middle;
    }
    return low < this.lines.length && this.lines[low]!.at - byte < CHARACTER_BYTES ? low : undefined;
  }

  appendBytes(stream: StreamName, bytes: Uint8Array, offset = 0): void {
    // A line break is one byte, also in what is no text.
    const lengths: number[] = [];
    for (let from = 0; from <= bytes.length; ) {
      const end = bytes.indexOf(10, from);
      lengths.push((end < 0 ? bytes.length : end) - from);
      from = end < 0 ? bytes.length + 1 : end + 1;
    }
    this.#append(stream, this.#decoders[stream].decode(bytes, { stream: true }), offset, (_, i) => lengths[i] ?? 0);
  }

  /** Adds text; `offset`: bytes of both streams before it. */
  append(stream: StreamName, text: string, offset = 0): void {
    this.#append(stream, text, offset, isPlain(text) ? (piece) => piece.length : bytesOf);
  }

  #append(stream: StreamName, text: string, offset: number, lengthOf: (piece: string, i: number) => number): void {
    const pieces = text.split('\n');
    let next = offset;
    pieces.forEach((piece, i) => {
      const isLast = i === pieces.length - 1;
      const at = next;
      next += lengthOf(piece, i) + 1;
      const open = this.#open[stream];
      if (open !== undefined) this.lines[open]!.raw += piece;
      else if (piece !== '' || !isLast) {
        if (stream === 'stderr') this.firstError ??= this.lines.length;
        this.lines.push({ stream, raw: piece, start: this.#styles[stream], at });
      } else return;
      const index = open ?? this.lines.length - 1;
      if (isLast) {
        this.#open[stream] = index;
        return;
      }
      delete this.#open[stream];
      const line = this.lines[index]!;
      if (line.raw.includes('\u001b') || Object.keys(line.start).length) this.#styles[stream] = spans(line.raw, line.start).style;
    });
  }
}

/** What a terminal would show of a line, in parts of one style. */
export const shownSpans = (line: Line): Span[] => spans(afterReturns(line.raw), line.start).spans;
export const plain = (line: Line): string => shownSpans(line).map((span) => span.text).join('');

export interface OutputGroup<T> {
  text: string;
  members: T[];
  /** Numbers of the lines that the largest group does not have in the same place. */
  differing: Set<number>;
}

/** Equal outputs together, the largest group first. `size`: of an output whose text is only its start. */
export function groupOutputs<T>(outputs: readonly { of: T; text: string; size?: number | undefined }[]): OutputGroup<T>[] {
  const groups = new Map<string, { text: string; members: T[] }>();
  for (const { of, text, size } of outputs) {
    const key = `${size ?? ''}\n${text}`;
    const group = groups.get(key);
    if (group) group.members.push(of);
    else groups.set(key, { text, members: [of] });
  }
  const sorted = [...groups.values()].sort((a, b) => b.members.length - a.members.length);
  const usual = sorted[0]?.text.split('\n') ?? [];
  return sorted.map(({ text, members }, i) => {
    const lines = text.split('\n');
    const differing = i === 0 ? [] : lines.flatMap((line, at) => (line === usual[at] ? [] : [at]));
    return { text, members, differing: new Set(differing) };
  });
}
