/** Sends a file and reports how much was sent, which `fetch` does not. */
import { api } from './client';
import { ApiProblem, type ProblemBody, unreachable } from './problem';

interface Upload {
  method?: 'POST' | 'PUT';
  path: string;
  file: Blob;
  onProgress: (sentBytes: number) => void;
  signal: AbortSignal;
}

/** The answer of the server. Throws an `ApiProblem`, or an `AbortError` after `signal`. */
export async function upload<T>(request: Upload): Promise<T> {
  // Refreshes the session first if it has expired: a large file is not sent twice.
  await api.GET('/api/me', { signal: request.signal });
  // It may have been cancelled meanwhile, and the event of that does not come again.
  request.signal.throwIfAborted();
  return send<T>(request);
}

function send<T>({ method = 'POST', path, file, onProgress, signal }: Upload): Promise<T> {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    const cancel = (): void => sender.abort();
    sender.open(method, path);
    sender.setRequestHeader('content-type', 'application/octet-stream');
    sender.upload.onprogress = (event) => onProgress(event.loaded);
    sender.onload = () => {
      const body = read(sender.responseText);
      if (sender.status >= 200 && sender.status < 300) resolve(body as T);
      else reject(new ApiProblem(sender.status, body as Partial<ProblemBody> | undefined, sender.getResponseHeader('retry-after')));
    };
    sender.onerror = () => reject(unreachable());
    sender.onabort = () => reject(new DOMException('cancelled', 'AbortError'));
    sender.onloadend = () => signal.removeEventListener('abort', cancel);
    signal.addEventListener('abort', cancel);
    sender.send(file);
  });
}

function read(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
