import { expect, test } from 'vitest';
import { otherData } from './work';

test('what an approval page does not know is shown as it is', () => {
  const data = { script: 'deploy', parameters: { A: '1' }, timeout_ms: 5, library: { version: 3 }, steps: ['one'], lost: 'rerun', none: null };
  expect(otherData(data)).toEqual([['library', '{"version":3}'], ['steps', '["one"]'], ['lost', 'rerun']]);
});
