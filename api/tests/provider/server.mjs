// A provider for the tests: oidc-provider, a certified implementation of OpenID Connect that is not ours.
//
// Its one argument is JSON: {"clients": [{"id", "secret", "redirect_uris", "post"}], "accounts": {login: claims}}.
// It prints its issuer and runs until its standard input ends. Whoever is called like one of `tampers` gets an
// ID token that a good provider would never make: it is taken apart and signed again with the provider's key.
//
// GitHub's flavour lies on top: its paths lead to the same endpoints, and its API tells of the same accounts.

import { createServer } from 'node:http';

import { SignJWT, decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

// The issuer alone goes to standard output.
console.info = console.warn;

const config = JSON.parse(process.argv[2]);
const accounts = config.accounts;

async function key(kid) {
  const pair = await generateKeyPair('RS256', { extractable: true });
  const jwk = { ...(await exportJWK(pair.privateKey)), kid, use: 'sig', alg: 'RS256' };
  return { ...pair, jwk };
}
const main = await key('main');
const next = await key('next');
const elliptic = await generateKeyPair('ES256', { extractable: true });
const ellipticJwk = { ...(await exportJWK(elliptic.privateKey)), kid: 'elliptic', use: 'sig', alg: 'ES256' };
let rotated = false;

const seconds = () => Math.floor(Date.now() / 1000);
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const signed = (claims, kid, with_key) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid }).sign(with_key);
const changed = (change) => (claims) => signed({ ...claims, ...change(claims) }, 'main', main.privateKey);

const tampers = {
  expired: changed(() => ({ iat: seconds() - 7200, exp: seconds() - 3600 })),
  old: changed(() => ({ iat: seconds() - 7200 })),
  future: changed(() => ({ iat: seconds() + 3600 })),
  nonce: changed(() => ({ nonce: 'another' })),
  nononce: changed(() => ({ nonce: undefined })),
  audience: changed(() => ({ aud: 'another-client' })),
  several: changed((claims) => ({ aud: [claims.aud, 'another-client'] })),
  party: changed(() => ({ azp: 'another-client' })),
  issuer: changed(() => ({ iss: 'https://another.example.com' })),
  noexpiry: changed(() => ({ exp: undefined })),
  nobody: changed(() => ({ sub: '' })),
  foreign: (claims) => signed(claims, 'main', next.privateKey),
  unpublished: (claims) => signed(claims, 'never', next.privateKey),
  unsigned: (claims) => `${base64url({ alg: 'none' })}.${base64url(claims)}.`,
  symmetric: (claims) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new TextEncoder().encode(config.clients[0].secret.padEnd(32, '.'))),
  // Good ones, of another kind.
  rotated: (claims) => {
    rotated = true;
    return signed(claims, 'next', next.privateKey);
  },
  elliptic: (claims) =>
    new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'elliptic' }).sign(elliptic.privateKey),
};

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: config.clients.map((client) => ({
    client_id: client.id,
    client_secret: client.secret,
    redirect_uris: client.redirect_uris,
    response_types: ['code'],
    grant_types: ['authorization_code'],
    token_endpoint_auth_method: client.post ? 'client_secret_post' : 'client_secret_basic',
  })),
  jwks: { keys: [main.jwk, ellipticJwk] },
  cookies: { keys: ['of the tests'] },
  pkce: { required: () => true },
  scopes: ['openid', 'email', 'profile', 'groups', 'read:user', 'user:email'],
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name'],
    groups: ['groups'],
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...accounts[id] }) }),
  features: { devInteractions: { enabled: true } },
});

provider.use(async (ctx, proceed) => {
  if (ctx.path === '/login/oauth/authorize') ctx.path = '/auth';
  const github = ctx.path === '/login/oauth/access_token';
  if (github) ctx.path = '/token';
  if (ctx.path === '/user' || ctx.path === '/user/emails') {
    const token = await provider.AccessToken.find((ctx.get('authorization') || '').replace('Bearer ', ''));
    if (!token || !ctx.get('user-agent') || !token.scope.includes('user:email')) {
      ctx.status = 401;
      ctx.body = { message: 'Bad credentials' };
      return;
    }
    const account = accounts[token.accountId];
    ctx.body =
      ctx.path === '/user' ? { id: account.id, login: token.accountId, email: null } : account.emails;
    return;
  }
  await proceed();
  if (ctx.path === '/token' && ctx.body?.id_token) {
    const claims = decodeJwt(ctx.body.id_token);
    const tamper = tampers[claims.sub];
    if (tamper) ctx.body = { ...ctx.body, id_token: await tamper(claims) };
    else if (decodeProtectedHeader(ctx.body.id_token).alg !== 'RS256') throw new Error('an unexpected key');
  }
  // GitHub says what is wrong with status 200.
  if (github && ctx.status >= 400) ctx.status = 200;
  if (ctx.path === '/me' && accounts[ctx.oidc?.accessToken?.accountId]?.impostor) {
    ctx.body = { ...ctx.body, sub: 'somebody-else' };
  }
  if (ctx.path === '/jwks' && rotated) {
    const { kty, n, e, kid, use, alg } = next.jwk;
    ctx.body = { keys: [...ctx.body.keys, { kty, n, e, kid, use, alg }] };
  }
});

server.on('request', provider.callback());
console.log(issuer);
process.stdin.on('end', () => process.exit(0)).resume();
