import { expect, test } from 'vitest';
import { otherData, stepsIn } from './work';

test('what an approval page does not know is shown as it is', () => {
  const data = { script: 'deploy', parameters: { A: '1' }, timeout_ms: 5, library: { version: 3 }, steps: [{ script: 'one' }], lost: 'rerun', none: null };
  expect(otherData(data)).toEqual([['library', '{"version":3}'], ['lost', 'rerun']]);
  expect(stepsIn(data)).toEqual([{ script: 'one' }]);
  expect(stepsIn({ steps: 'one' })).toEqual([]);
});
