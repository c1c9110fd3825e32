// A provider of OpenID Connect for tests: `oidc-provider`, with one client and people of any name.
import { Provider } from 'oidc-provider';

const [, , port, redirect, secret] = process.argv;
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'muster',
      client_secret: secret,
      redirect_uris: [redirect],
      response_types: ['code'],
      grant_types: ['authorization_code'],
    },
  ],
  pkce: { required: () => true },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
  // Claims are in the identity token, as most providers do.
  conformIdTokenClaims: false,
  async findAccount(_context, id) {
    const claims = { sub: id, email: `${id}@example.com`, email_verified: true, name: id };
    return { accountId: id, claims: async () => ({ ...claims, groups: ['staff'] }) };
  },
  ttl: { AuthorizationCode: 2 },
  cookies: { keys: ['a key for tests'] },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
