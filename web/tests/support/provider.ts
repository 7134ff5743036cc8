/** A real identity provider of others (`api/tests/provider`), and a name server for the records that prove domains. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Page } from '@playwright/test'

/** Where the server of the tests asks for records. */
export const DNS_PORT = 18_553

export interface Provider {
  issuer: string
  process: ChildProcess
}

export const CLIENT = { id: 'ztna', secret: 'a secret of the tests, which is long' }

export interface ProviderClient {
  id: string
  secret: string
  redirect_uris: string[]
  /** GitHub's clients send their secret in the form. */
  post?: boolean
}

/** Starts a provider that knows these accounts by login, and sends browsers back to `callback`, or where these clients say. */
export async function startProvider(
  callback: string | ProviderClient[],
  accounts: Record<string, object>,
): Promise<Provider> {
  const clients =
    typeof callback === 'string' ? [{ ...CLIENT, redirect_uris: [callback] }] : callback
  const config = { clients, accounts }
  const folder = resolve(import.meta.dirname, '../../../api/tests/provider')
  const child = spawn(process.execPath, ['server.mjs', JSON.stringify(config)], {
    cwd: folder,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const ended = new Promise<never>((_, failed) =>
    child.once('exit', () => failed(new Error(`no provider: npm ci --prefix ${folder}`))),
  )
  const said = new Promise<string>((done) =>
    createInterface({ input: child.stdout }).once('line', done),
  )
  return { issuer: await Promise.race([said, ended]), process: child }
}

/** Answers every question with this text (RFC 1035 §4), until it is closed. */
export async function answerTxt(text: string): Promise<{ close: () => void }> {
  const socket = createSocket('udp4')
  socket.on('message', (question, from) => {
    // One question: labels up to the empty one, then type and class.
    const end = question.indexOf(0, 12) + 5
    const answer = Buffer.from([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, text.length + 1, text.length])
    const reply = Buffer.concat([question.subarray(0, end), answer, Buffer.from(text)])
    // A response, with recursion, no error; one question, one answer, nothing else.
    reply.writeUInt16BE(0x8580, 2)
    reply.set([0, 1, 0, 1, 0, 0, 0, 0], 4)
    socket.send(reply, from.port, from.address)
  })
  await new Promise<void>((done) => socket.bind(DNS_PORT, '127.0.0.1', done))
  return socket
}

/** At the provider: who one is, and that one agrees. */
export async function atProvider(page: Page, login: string) {
  await page.locator('[name=login]').fill(login)
  await page.locator('[name=password]').fill('any')
  await page.getByRole('button', { name: 'Sign-in' }).click()
  await page.getByRole('button', { name: 'Continue' }).click()
}
