/** Hashes a file beside the page, which stays smooth. Reports how far it is, and at last the hash. */
import { Sha256 } from './sha256';

export type FromHash = { doneBytes: number } | { sha256: string } | { error: string };
/** What is read at once. */
const STEP = 4 * 1024 * 1024;

addEventListener('message', ({ data }: MessageEvent<Blob>) => void hash(data));

async function hash(file: Blob): Promise<void> {
  try {
    const sum = new Sha256();
    for (let at = 0; at < file.size; at += STEP) {
      sum.push(new Uint8Array(await file.slice(at, at + STEP).arrayBuffer()));
      postMessage({ doneBytes: Math.min(file.size, at + STEP) } satisfies FromHash);
    }
    postMessage({ sha256: sum.finish() } satisfies FromHash);
  } catch (error) {
    // The file was changed or removed after it was chosen.
    postMessage({ error: String(error) } satisfies FromHash);
  }
}
