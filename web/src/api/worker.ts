/// <reference types="vite/client" />
/** Scripts that run beside the page. The policy of the page wants a reason for each address: these, and no other. */
import hashAddress from '../library/files/sha256.worker?worker&url';
import searchAddress from '../commands/output/search.worker?worker&url';

const ADDRESSES = { hash: hashAddress, search: searchAddress };

interface Policies {
  createPolicy: (name: string, rules: { createScriptURL: (url: string) => string }) => { createScriptURL: (url: string) => string };
}
const policies = (globalThis as { trustedTypes?: Policies }).trustedTypes;
const policy = policies?.createPolicy('muster-worker', {
  createScriptURL: (url) => {
    if (!Object.values(ADDRESSES).includes(url)) throw new TypeError(url);
    return url;
  },
});

export const startWorker = (name: keyof typeof ADDRESSES): Worker => new Worker((policy?.createScriptURL(ADDRESSES[name]) ?? ADDRESSES[name]) as string, { type: 'module' });
