import { describe, expect, it } from 'vitest';
import { draftOf, incompleteOf, readTransfer, signedSha256, transferPart, transferQuery } from './transfer';

const SHA = 'a'.repeat(64);
const push = { kind: 'push', sha256: SHA, path: '/srv/app/app.conf', permissions: '0640', owner: 'app' } as const;

describe('a transfer', () => {
  it('is the same after a way through the address and through a job', () => {
    for (const draft of [push, { ...push, permissions: '', owner: '' }, { kind: 'pull', sha256: '', path: '/var/log/app.log', permissions: '', owner: '' } as const]) {
      const query = new URLSearchParams(Object.entries(transferQuery(draft)).filter((entry): entry is [string, string] => Boolean(entry[1])));
      expect(readTransfer(query)).toEqual(draft);
      const { script, file } = transferPart(draft);
      expect(draftOf(script, file)).toEqual(draft);
    }
  });
  it('says what is missing', () => {
    expect(incompleteOf(push)).toBeUndefined();
    expect(incompleteOf({ ...push, sha256: '' })).toBe('chooseFile');
    expect(incompleteOf({ ...push, kind: 'pull', sha256: '' })).toBeUndefined();
    expect(incompleteOf({ ...push, path: ' ' })).toBe('writePath');
    for (const path of ['srv/app', '/srv/../etc', '/srv/', '/', `/${'a'.repeat(256)}`, '/srv/a\u0007']) expect(incompleteOf({ ...push, path }), path).toBe('wrongPath');
    for (const permissions of ['888', '64', '4755']) expect(incompleteOf({ ...push, permissions }), permissions).toBe('wrongPermissions');
  });
  it('takes no hash from an address that is none', () => expect(readTransfer(new URLSearchParams({ sha256: 'abc' })).sha256).toBe(''));
  it('reads the hash that the agent signed', () => expect(signedSha256(JSON.stringify({ stdout_sha256: SHA }))).toBe(SHA));
});
