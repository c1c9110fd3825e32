import { expect, test } from 'vitest';
import { frameOfParts, joinParts, splitParts } from './scriptParts';

const again = (text: string, interpreter: string): string | undefined => {
  const parts = splitParts(text, interpreter);
  return parts && joinParts(parts.head, parts.tail);
};

test('the parts of any text are the text again', () => {
  for (const interpreter of ['python', 'node', 'sh', 'bash']) expect(again(frameOfParts(interpreter), interpreter)).toBe(frameOfParts(interpreter));
  for (const text of ['import os\r\ndef main(data):\r\n  pass\r\ndef trigger(data):\r\n  pass', 'def trigger(data): pass\n\n\n\nasync def main (data): pass\n\n\n', 'def trigger(d): pass\ndef main(d): pass']) expect(again(text, 'python')).toBe(text);
});

test('what comes first stays first, and a function keeps what is right above it', () => {
  const decorated = 'import os\n\ndef main(data):\n    return os.getpid()\n\n# Every tenth call.\n@cached\ndef trigger(data):\n    return True\n';
  expect(splitParts(decorated, 'python')).toEqual({ first: 'main', head: 'import os\n\ndef main(data):\n    return os.getpid()\n', tail: '# Every tenth call.\n@cached\ndef trigger(data):\n    return True\n' });
  expect(splitParts('def trigger(data): pass\n@a\ndef main(data): pass\n', 'python')?.tail).toBe('@a\ndef main(data): pass\n');
});

test('a text without both parts, or with functions inside others, stays whole', () => {
  for (const text of ['', 'def main(data): pass\n', 'class A:\n    def trigger(self): pass\n    def main(self): pass\n', '# main\n']) expect(splitParts(text, 'python')).toBeUndefined();
  for (const text of ['', '# main\necho\n', 'echo "# main"\n', '# maintenance\n']) expect(splitParts(text, 'sh')).toBeUndefined();
});
