import { expect, test } from 'vitest';
import { draftsOf, firstIncomplete, newStep, readSteps, sameSteps, secretMistakes, stepsOf, summarize } from './steps';

const REQUESTED = [
  { name: 'Stop the service', argv: ['systemctl', 'stop', 'my shop'], timeout_ms: 30_000 },
  { script: 'deploy', parameters: { VERSION: '1.4.2' } as never, secrets: ['TOKEN'], on_failure: 'continue' as const },
];

test('steps that a form did not change are sent as they were', () => {
  expect(stepsOf(draftsOf(REQUESTED))).toEqual(REQUESTED);
  expect(sameSteps(draftsOf(REQUESTED), draftsOf(REQUESTED))).toBe(true);
  expect(sameSteps(draftsOf(REQUESTED), draftsOf([...REQUESTED].reverse()))).toBe(false);
});

test('an address has the steps, and one that was cut off has none', () => {
  expect(stepsOf(readSteps(JSON.stringify(REQUESTED)))).toEqual(REQUESTED);
  for (const text of [null, '', '[{"script":', '{"script":"a"}', '[1, null]']) expect(readSteps(text)).toEqual([]);
});

test('a step without work is named by its number', () => {
  expect(firstIncomplete(draftsOf(REQUESTED))).toBeUndefined();
  expect(firstIncomplete([...draftsOf(REQUESTED), newStep()])).toBe(3);
});

test('each secret goes to a step, and each named one has a value', () => {
  expect(secretMistakes(draftsOf(REQUESTED), ['TOKEN'])).toEqual({ unused: [], missing: [] });
  expect(secretMistakes(draftsOf(REQUESTED), ['OTHER'])).toEqual({ unused: ['OTHER'], missing: ['TOKEN'] });
});

test('steps are counted over agents, and skipped ones took no time', () => {
  const step = (state: string | null, duration_ms: number | null) => ({ parameters: {}, secrets: [], on_failure: 'stop', state, duration_ms }) as never;
  const found = summarize(REQUESTED, [{ steps: [step('succeeded', 10), step('failed', 5)] }, { steps: [step('timed_out', 40), step('skipped', 900)] }, { steps: [step(null, null), step(null, null)] }, {}]);
  expect(found.map(({ counts, durations, failed }) => ({ counts, durations, failed }))).toEqual([
    { counts: [['succeeded', 1], ['timed_out', 1]], durations: [10, 40], failed: [1] },
    { counts: [['failed', 1], ['skipped', 1]], durations: [5, 5], failed: [0] },
  ]);
});
