import { api, data, type Schemas } from '../../api/client';

type Made = Schemas['AddedPasskeyView'];
type Signed = Schemas['AssertionBody'];

/** The person closed the dialog of the browser, or took too long. */
export class PasskeyCancelled extends Error {}
/** The device has a passkey of this person already. */
export class PasskeyKnown extends Error {}

/** Browsers use passkeys for names only, and not for addresses. */
export const arePasskeysUsable = (): boolean => isSecureContext && 'PublicKeyCredential' in window && !/^[\d.]+$|^\[/.test(location.hostname);

/** Asks a device to sign. */
export async function signed(): Promise<Signed> {
  const asked = await data(api.POST('/api/auth/passkey/challenge'));
  const credential = await asking(() => navigator.credentials.get({ publicKey: { rpId: asked.host, challenge: bytes(asked.nonce), userVerification: 'required' } }));
  const response = credential.response as AuthenticatorAssertionResponse;
  return {
    challenge: asked.challenge,
    credential_id: text(credential.rawId),
    user_handle: text(response.userHandle ?? new ArrayBuffer()),
    client_data: text(response.clientDataJSON),
    authenticator_data: text(response.authenticatorData),
    signature: text(response.signature),
  };
}

/** Makes a passkey on a device, and adds it to the account. */
export async function add(name: string, code: string | undefined): Promise<Made> {
  const asked = await data(api.POST('/api/me/passkeys/challenge', { body: { code } }));
  const credential = await asking(() =>
    navigator.credentials.create({
      publicKey: {
        rp: { id: asked.host, name: 'Muster' },
        user: { id: bytes(asked.user_handle), name: asked.user_name, displayName: asked.user_title },
        challenge: bytes(asked.nonce),
        pubKeyCredParams: asked.algorithms.map((alg) => ({ type: 'public-key' as const, alg })),
        excludeCredentials: asked.known.map((id) => ({ type: 'public-key' as const, id: bytes(id) })),
        // The device finds it without an address, and verifies the person.
        authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
        attestation: 'none',
      },
    }),
  );
  const response = credential.response as AuthenticatorAttestationResponse;
  const body = { challenge: asked.challenge, name, credential_id: text(credential.rawId), client_data: text(response.clientDataJSON), attestation_object: text(response.attestationObject) };
  return data(api.POST('/api/me/passkeys', { body }));
}

async function asking(ask: () => Promise<Credential | null>): Promise<PublicKeyCredential> {
  try {
    const credential = await ask();
    if (credential instanceof PublicKeyCredential) return credential;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'InvalidStateError') throw new PasskeyKnown();
    if (!(error instanceof DOMException)) throw error;
  }
  throw new PasskeyCancelled();
}

function bytes(encoded: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(encoded.replaceAll('-', '+').replaceAll('_', '/')), (character) => character.charCodeAt(0));
}
function text(buffer: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}
