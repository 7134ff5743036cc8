/** Starts the server that most tests are about. Its organisations may have providers and name servers of the tests. */
import { DNS_PORT } from './provider'
import { startServer } from './server'

export default async function setup() {
  const server = await startServer('127.0.0.1', 'localhost', [
    '--allow-private-issuers',
    '--allow-http-issuers',
    '--dns-servers',
    `127.0.0.1:${DNS_PORT}`,
  ])
  process.env.ZTNA_TEST_URL = server.url
  process.env.ZTNA_TEST_MAIL = server.mail
  return server.stop
}
