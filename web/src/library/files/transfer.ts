/** A transfer as the form has it, as its address has it, and as a job has it. */
import type { Schemas } from '../../api/client';

export type TransferKind = 'push' | 'pull';
export const SCRIPTS: Record<TransferKind, string> = { push: 'file:push', pull: 'file:pull' };
/** Most bytes of a file. */
export const MAX_BYTES = 1024 * 1024 * 1024;
/** What the server takes as a path: full, without `.` and `..`. */
export const PATH = /^(\/(?!\.{1,2}(\/|$))[^/\u0000-\u001f\u007f-\u009f]{1,255})+$/;
/** As attributes `pattern`: three octal digits; the name of a user. */
export const PERMISSIONS_PATTERN = '0?[0-7]{3}';
export const OWNER_PATTERN = '[A-Za-z_][A-Za-z0-9_.\\-]{0,31}';

export interface TransferDraft {
  kind: TransferKind;
  /** Of an uploaded file. */
  sha256: string;
  path: string;
  permissions: string;
  owner: string;
}

export const kindOf = (script: string | null | undefined): TransferKind | undefined => (['push', 'pull'] as const).find((kind) => SCRIPTS[kind] === script);

export function readTransfer(query: URLSearchParams): TransferDraft {
  const text = (name: string): string => query.get(name) ?? '';
  return { kind: text('file') === 'pull' ? 'pull' : 'push', sha256: /^[0-9a-f]{64}$/.test(text('sha256')) ? text('sha256') : '', path: text('path'), permissions: text('permissions'), owner: text('owner') };
}

/** The parameters of the address; empty ones are left out. */
export const transferQuery = (draft: TransferDraft): Record<string, string | undefined> =>
  draft.kind === 'pull' ? { file: 'pull', path: draft.path } : { file: 'push', path: draft.path, sha256: draft.sha256, permissions: draft.permissions, owner: draft.owner };

/** What is missing; the names are of messages. */
export function incompleteOf(draft: TransferDraft): 'chooseFile' | 'writePath' | 'wrongPath' | 'wrongPermissions' | undefined {
  if (draft.kind === 'push' && !draft.sha256) return 'chooseFile';
  if (!draft.path.trim()) return 'writePath';
  if (!PATH.test(draft.path.trim()) || new TextEncoder().encode(draft.path.trim()).length > 1_024) return 'wrongPath';
  return draft.kind === 'push' && draft.permissions.trim() && !new RegExp(`^${PERMISSIONS_PATTERN}$`).test(draft.permissions.trim()) ? 'wrongPermissions' : undefined;
}

/** The part of a job. */
export function transferPart(draft: TransferDraft): { script: string; file: Schemas['FileTransferBody'] } {
  const path = draft.path.trim();
  if (draft.kind === 'pull') return { script: SCRIPTS.pull, file: { path } };
  return { script: SCRIPTS.push, file: { path, sha256: draft.sha256, ...(draft.permissions.trim() ? { mode: draft.permissions.trim() } : {}), ...(draft.owner.trim() ? { owner: draft.owner.trim() } : {}) } };
}

/** The draft of work that exists. */
export const draftOf = (script: string, file: Schemas['FileTransferBody']): TransferDraft => ({ kind: kindOf(script) ?? 'push', sha256: file.sha256 ?? '', path: file.path, permissions: file.mode ?? '', owner: file.owner ?? '' });

/** The last part of a path. */
export const nameOfPath = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** The SHA-256 of a pulled file, as its agent has signed it. */
export function signedSha256(document: string | undefined): string | undefined {
  const found = /"stdout_sha256"\s*:\s*"([0-9a-f]{64})"/.exec(document ?? '');
  return found?.[1];
}
