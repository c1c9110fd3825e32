/** Hashes a file beside the page, which stays smooth. Reports its progress, and then the hash. */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';

export type FromHash = { doneBytes: number } | { sha256: string } | { error: string };
/** Bytes that are read at once. */
const STEP = 4 * 1024 * 1024;

addEventListener('message', ({ data }: MessageEvent<Blob>) => void hash(data));

async function hash(file: Blob): Promise<void> {
  try {
    // The browser's own function takes only a whole content, which may be larger than its memory.
    const sum = sha256.create();
    for (let at = 0; at < file.size; at += STEP) {
      sum.update(new Uint8Array(await file.slice(at, at + STEP).arrayBuffer()));
      postMessage({ doneBytes: Math.min(file.size, at + STEP) } satisfies FromHash);
    }
    postMessage({ sha256: bytesToHex(sum.digest()) } satisfies FromHash);
  } catch (error) {
    // The file was changed or removed after it was chosen.
    postMessage({ error: String(error) } satisfies FromHash);
  }
}
