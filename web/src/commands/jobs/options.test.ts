import { expect, test } from 'vitest';
import { inputProblem, MAX_INPUT_BYTES, offlineOf, offlinePart, pauses, retryDraftOf, retryPart, toBase64 } from './options';

test('a form that was not changed asks for the same retries and lock', () => {
  for (const work of [{}, { lock: 'apt' }, { retries: { count: 3, backoff_ms: 1_500 } }, { retries: { count: 1 }, lock: 'a.b' }]) expect(retryPart(retryDraftOf(work))).toEqual(work);
});

test('a pause without retries is not sent', () => {
  expect(retryPart({ retries: '', backoff: '5', lock: ' ' })).toEqual({});
  expect(retryPart({ retries: '0', backoff: '5', lock: '' })).toEqual({});
});

test('each pause is twice the one before it, up to an hour', () => {
  expect(pauses({ count: 3, backoff_ms: 30_000 })).toEqual([30_000, 60_000, 120_000]);
  expect(pauses({ count: 2 })).toEqual([10_000, 20_000]);
  expect(pauses({ count: 10, backoff_ms: 3_600_000 })).toEqual(Array.from({ length: 10 }, () => 3_600_000));
});

test('input is bounded for one agent and for all of them', () => {
  expect(inputProblem(MAX_INPUT_BYTES, 1)).toBeUndefined();
  expect(inputProblem(MAX_INPUT_BYTES + 1, 1)).toBe('tooLarge');
  expect(inputProblem(MAX_INPUT_BYTES, 256)).toBeUndefined();
  expect(inputProblem(MAX_INPUT_BYTES, 257)).toBe('tooLargeForAll');
});

test('input is sent byte for byte', () => {
  const bytes = Uint8Array.from({ length: 20_000 }, (_, i) => i % 256);
  expect(Buffer.from(toBase64(bytes), 'base64').equals(Buffer.from(bytes))).toBe(true);
  expect(toBase64(new Uint8Array())).toBe('');
});

test('agents that are offline wait, unless a run or its waves say otherwise', () => {
  expect(offlinePart('wait', true)).toEqual({});
  expect(offlinePart('last_wave', false)).toEqual({});
  for (const [policy, hasWaves] of [['skip', false], ['skip', true], ['fail', false], ['fail', true], ['last_wave', true]] as const) expect(offlineOf(offlinePart(policy, hasWaves))).toBe(policy);
});
