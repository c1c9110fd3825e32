import { expect, test } from 'vitest';
import { afterReturns, spans } from './ansi';

const texts = (line: string): string[] => spans(line, {}).spans.map((span) => span.text);

test('colours become styles and last until they are reset', () => {
  const first = spans('a \u001b[1;31mred', {});
  expect(first.spans).toEqual([
    { text: 'a ', style: {} },
    { text: 'red', style: { bold: true, color: 'red' } },
  ]);
  expect(spans('more\u001b[0m end', first.style).spans[0]?.style.color).toBe('red');
  expect(spans('more\u001b[0m end', first.style).style).toEqual({});
});

test('sequences that move the cursor, clear the screen or set a title are dropped', () => {
  expect(texts('\u001b[2Ja\u001b[10;5Hb\u001b]0;title\u0007c\u001b]8;;x\u001b\\d\u001bMe')).toEqual(['a', 'b', 'c', 'd', 'e']);
  expect(texts('a\u001b')).toEqual(['a']);
  expect(texts('a\u001b]0;never ends')).toEqual(['a']);
});

test('colours of 256 and of 16 million are skipped with their parameters', () => {
  expect(spans('\u001b[38;5;1mx', {}).spans[0]?.style.color).toBe('red');
  expect(spans('\u001b[38;2;1;31;4mx', {}).spans[0]?.style).toEqual({ color: undefined });
});

test('a progress line shows its last state', () => {
  expect(afterReturns('10 %\r50 %\r100 %\r')).toBe('100 %');
  expect(afterReturns('plain')).toBe('plain');
});
