import { afterEach, expect, test } from 'vitest';
import { locale } from './locale.svelte';
import { bytes, duration } from './time';

afterEach(() => (locale.current = 'en'));

test('sizes and durations are written in the language of the page', () => {
  expect([bytes(8_400_000), bytes(84_000_000), duration(1_500), duration(90_000)]).toEqual(['8.4 MB', '84 MB', '1.5 s', '1 min 30 s']);
  locale.current = 'de';
  expect([bytes(8_400_000), bytes(84_000_000), duration(1_500)]).toEqual(['8,4 MB', '84 MB', '1,5 s']);
});
