/**
 * What stands before the API where the dashboard is served: its files, and everything else handed on. It does
 * what the README asks of a web server, its headers included.
 */
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { createServer, request as httpsRequest, type Server } from 'node:https'
import { extname, join, normalize } from 'node:path'

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
  '.json': 'application/json',
}

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ')

const ofServer = (path: string) => /^\/(api|sign-in|health|metrics)(\/|$|\?)/.test(path)

export function serve(options: {
  dist: string
  api: string
  port: number
  cert: string
  key: string
}): Promise<Server> {
  const { dist, api, port } = options
  const target = new URL(api)
  const tls = { cert: readFileSync(options.cert), key: readFileSync(options.key) }
  const server = createServer(tls, (request, response) => {
    const path = request.url ?? '/'
    if (ofServer(path)) {
      const onward = httpsRequest(
        {
          host: target.hostname,
          port: target.port,
          path,
          method: request.method,
          headers: request.headers,
          rejectUnauthorized: false,
        },
        (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers)
          answer.pipe(response)
        },
      )
      onward.on('error', () => response.writeHead(502).end())
      request.pipe(onward)
      return
    }
    const named = join(dist, normalize(new URL(path, 'https://x').pathname))
    const isFile = named.startsWith(dist) && existsSync(named) && statSync(named).isFile()
    const file = isFile ? named : join(dist, 'index.html')
    response.writeHead(200, {
      'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
      'cache-control': file.includes('/assets/') ? 'max-age=31536000, immutable' : 'no-cache',
      'content-security-policy': POLICY,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'same-origin',
    })
    createReadStream(file).pipe(response)
  })
  server.on('upgrade', (request, socket, head) => {
    const onward = httpsRequest({
      host: target.hostname,
      port: target.port,
      path: request.url,
      headers: request.headers,
      rejectUnauthorized: false,
    })
    onward.on('upgrade', (answer, other, first) => {
      const lines = Object.entries(answer.headers).flatMap(([name, value]) =>
        [value].flat().map((one) => `${name}: ${one}`),
      )
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`)
      other.write(head)
      socket.write(first)
      other.pipe(socket).pipe(other)
      other.on('error', () => socket.destroy())
      socket.on('error', () => other.destroy())
    })
    onward.on('response', (answer) => {
      socket.end(`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n\r\n`)
    })
    onward.on('error', () => socket.destroy())
    onward.end()
  })
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server)))
}
