import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Sha256 } from './sha256';

describe('the hash of a file', () => {
  it('is that of the whole content, for any size and any pieces', () => {
    let seed = 7;
    const next = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    for (const size of [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1_000, 100_003]) {
      for (let round = 0; round < 4; round += 1) {
        const bytes = Uint8Array.from({ length: size }, () => next(256));
        const hash = new Sha256();
        for (let at = 0; at < size; ) {
          const length = 1 + next(200);
          hash.push(bytes.subarray(at, at + length));
          at += length;
        }
        expect(hash.finish(), `${size} bytes`).toBe(createHash('sha256').update(bytes).digest('hex'));
      }
    }
  });
});
