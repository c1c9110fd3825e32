import { expect, test } from 'vitest';
import { groupOutputs, OutputLines, plain, untilByte } from './output';

const shown = (lines: OutputLines): string[] => lines.lines.map((line) => `${line.stream === 'stderr' ? '! ' : ''}${plain(line)}`);

test('lines are the same however the output is cut', () => {
  const text = 'one\n\ntwo\nthree';
  for (let cut = 0; cut <= text.length; cut += 1) {
    const lines = new OutputLines();
    lines.append('stdout', text.slice(0, cut));
    lines.append('stdout', text.slice(cut));
    expect(shown(lines), String(cut)).toEqual(['one', '', 'two', 'three']);
  }
});

test('streams that take turns do not break the lines of each other', () => {
  const lines = new OutputLines();
  lines.append('stdout', 'a');
  lines.append('stderr', 'warning\n');
  lines.append('stdout', 'b\n');
  expect(shown(lines)).toEqual(['ab', '! warning']);
});

test('a character that is cut in two is put together', () => {
  const lines = new OutputLines();
  const bytes = new TextEncoder().encode('ü\n');
  lines.appendBytes('stdout', bytes.slice(0, 1));
  lines.appendBytes('stdout', bytes.slice(1));
  expect(shown(lines)).toEqual(['ü']);
});

test('each line knows its first byte, however the output is cut and whatever it is', () => {
  const parts: ['stdout' | 'stderr', string][] = [['stdout', 'a€b\n\nü'], ['stderr', 'warn 𝄞\n'], ['stdout', 'end\nlast']];
  const bytes = parts.map(([stream, text]) => [stream, new TextEncoder().encode(text)] as const);
  const expected = [0, 6, 7, 9, 23];
  const whole = new OutputLines();
  const torn = new OutputLines();
  let offset = 0;
  for (const [i, [stream, raw]] of bytes.entries()) {
    whole.append(stream, parts[i]![1], offset);
    for (let at = 0; at < raw.length; at += 2) torn.appendBytes(stream, raw.slice(at, at + 2), offset + at);
    offset += raw.length;
  }
  expect(whole.lines.map((line) => line.at)).toEqual(expected);
  for (const lines of [whole, torn]) expect([...expected, 10, 99].map((byte) => lines.lineAt(byte))).toEqual([0, 1, 2, 3, 4, undefined, undefined]);
});

test('a colour lasts over the end of its line', () => {
  const lines = new OutputLines();
  lines.append('stdout', '\u001b[31mred\nstill\u001b[0m\nplain\n');
  expect(lines.lines.map((line) => line.start.color)).toEqual([undefined, 'red', undefined]);
});

test('equal outputs are one group, and the others name what differs', () => {
  const groups = groupOutputs([{ of: 1, text: 'a\nb' }, { of: 2, text: 'a\nc' }, { of: 3, text: 'a\nb' }]);
  expect(groups.map((group) => group.members)).toEqual([[1, 3], [2]]);
  expect([...groups[1]!.differing]).toEqual([1]);
});

test('long outputs with the same start and another length are not the same', () => {
  const groups = groupOutputs([{ of: 1, text: 'start', size: 100 }, { of: 2, text: 'start', size: 200 }, { of: 3, text: 'start', size: 100 }]);
  expect(groups.map((group) => group.members)).toEqual([[1, 3], [2]]);
});

test('a part of an output ends at its byte, and the rest is left out', () => {
  const text = { stream: 'stdout' as const, offset_bytes: 10, text: 'abäcd' };
  expect(untilByte(text, 16)).toBe(text);
  expect(untilByte(text, 14)).toEqual({ ...text, text: 'abä' });
  expect(untilByte(text, 10)).toBeUndefined();
  const raw = { stream: 'stderr' as const, offset_bytes: 0, base64: btoa('\u00ff\u00fe\n') };
  expect(untilByte(raw, 3)).toBe(raw);
  expect(untilByte(raw, 1)).toEqual({ ...raw, base64: btoa('\u00ff') });
});
