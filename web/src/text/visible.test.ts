import { expect, test } from 'vitest';
import { parts, visible } from './visible';

test('ordinary text of any language stays as it is', () => {
  for (const text of ['web-1', 'Zürich', '日本語', 'مرحبا', '👍🏽', '']) expect(visible(text)).toBe(text);
});

test('what hides or reorders text is shown as its code', () => {
  expect(visible('a\u202eb')).toBe('a\\u{202e}b');
  expect(visible('\u200b\u0000\u001b[2J\u2066\ufeff')).toBe('\\u{200b}\\u{0000}\\u{001b}[2J\\u{2066}\\u{feff}');
  expect(visible('\ud800x')).toBe('\\u{d800}x');
  expect(visible('\u{e0041}')).toBe('\\u{e0041}');
});

test('an escape is told apart from the same text written by a host', () => {
  expect(parts('\\u{202e}')).toEqual([{ text: '\\u{202e}', isEscape: false }]);
  expect(parts('\u202e')).toEqual([{ text: '\\u{202e}', isEscape: true }]);
});

test('lines are kept where they are wanted', () => {
  expect(parts('a\n\tb', { lines: true })).toEqual([{ text: 'a\n\tb', isEscape: false }]);
});
