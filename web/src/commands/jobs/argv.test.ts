import { expect, test } from 'vitest';
import { join, split } from './argv';

test('a command line is split at spaces outside of quotes, and put together again', () => {
  expect(split(`tar -czf "a b.tar" 'it is' x`)).toEqual(['tar', '-czf', 'a b.tar', 'it is', 'x']);
  for (const argv of [['uname', '-a'], ['echo', 'a b', 'say "hi"', 'back\\slash', '']]) expect(split(join(argv))).toEqual(argv);
});
