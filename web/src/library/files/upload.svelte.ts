/** An upload of a file that is pushed later: hashed first, sent in parts, and continued after an interruption. */
import { api, data } from '../../api/client';
import { ApiProblem } from '../../api/problem';
import { upload } from '../../api/upload';
import { startWorker } from '../../api/worker';
import type { StoredFile } from './queries';
import type { FromHash } from './sha256.worker';

const PART_BYTES = 4 * 1024 * 1024;
/** Errors in a row after which it is given up. */
const MAX_FAILURES = 8;
const MAX_NAME = 128;

export class FileUpload {
  phase = $state<'idle' | 'hashing' | 'sending' | 'waiting'>('idle');
  doneBytes = $state(0);
  size = $state(0);
  /** Bytes that the server had before. */
  resumedBytes = $state(0);
  #stop: AbortController | undefined;

  get isBusy(): boolean {
    return this.phase !== 'idle';
  }

  /** The stored file; undefined after `cancel`. Throws an `ApiProblem`. */
  async start(file: File): Promise<StoredFile | undefined> {
    const stop = new AbortController();
    this.#stop = stop;
    this.size = file.size;
    this.doneBytes = this.resumedBytes = 0;
    this.phase = 'hashing';
    try {
      const sha256 = await this.#hash(file, stop.signal);
      const stored = await data(api.POST('/api/files', { body: { name: [...file.name].slice(0, MAX_NAME).join(''), sha256, bytes: file.size }, signal: stop.signal }));
      this.resumedBytes = stored.is_complete ? 0 : stored.received_bytes;
      return await this.#send(file, stored, stop.signal);
    } catch (error) {
      if (stop.signal.aborted) return undefined;
      throw error;
    } finally {
      this.phase = 'idle';
    }
  }

  cancel(): void {
    this.#stop?.abort();
  }

  #hash(file: File, signal: AbortSignal): Promise<string> {
    const worker = startWorker('hash');
    return new Promise<string>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(new DOMException('cancelled', 'AbortError')));
      worker.addEventListener('message', ({ data: told }: MessageEvent<FromHash>) => {
        if ('doneBytes' in told) this.doneBytes = told.doneBytes;
        else if ('sha256' in told) resolve(told.sha256);
        else reject(new Error(told.error));
      });
      worker.postMessage(file);
    }).finally(() => worker.terminate());
  }

  async #send(file: File, first: StoredFile, signal: AbortSignal): Promise<StoredFile> {
    let stored = first;
    let failures = 0;
    // An empty file needs one request, too.
    while (!stored.is_complete) {
      const at = stored.received_bytes;
      this.phase = 'sending';
      this.doneBytes = at;
      try {
        stored = await upload<StoredFile>({ method: 'PUT', path: `/api/files/${stored.id}/content?offset_bytes=${at}`, file: file.slice(at, at + PART_BYTES), onProgress: (sent) => (this.doneBytes = at + sent), signal });
        failures = 0;
      } catch (error) {
        failures += 1;
        const isOtherOffset = error instanceof ApiProblem && (error.code === 'wrong_offset' || error.code === 'upload_in_progress' || error.code === 'file_complete');
        if (signal.aborted || failures >= MAX_FAILURES || !(isOtherOffset || (error instanceof ApiProblem && error.isPassing))) throw error;
        this.phase = 'waiting';
        await new Promise((resolve) => setTimeout(resolve, Math.min(10_000, 250 * 2 ** failures)));
        // The server says how much it has; without an answer, the next part finds out.
        stored = await data(api.GET('/api/files/{id}', { params: { path: { id: stored.id } }, signal })).catch(() => stored);
        this.resumedBytes = stored.received_bytes;
      }
    }
    return stored;
  }
}
