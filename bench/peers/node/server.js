'use strict'
// The masked-number service most people start from, Express and ioredis, doing the
// same work as the others: check Twilio's signature, one command to Redis, open the
// sealed number, answer TwiML. Only the standard crypto module beside the two.
const crypto = require('crypto')
const fs = require('fs')
const express = require('express')
const Redis = require('ioredis')

const env = process.env
const keys = new Map()
let primary
for (const k of JSON.parse(fs.readFileSync(env.PEER_KEYSET, 'utf8')).keys) {
  const secret = Buffer.from(k.secret, 'base64')
  const derive = purpose => Buffer.from(crypto.hkdfSync('sha256', secret, '', purpose, 32))
  const key = { id: k.id, lookup: derive('callmask/1 lookup'), seal: derive('callmask/1 seal') }
  keys.set(k.id, key)
  if (k.state === 'primary') primary = key
}

function token (digits) {
  const text = Buffer.alloc(9)
  text[0] = 1
  text.writeBigUInt64BE(BigInt(digits), 1)
  return crypto.createHmac('sha256', primary.lookup).update(text).digest().subarray(0, 16)
}

// format 1, key id 1, carrier 1, party 1, lease end 4, VN to show 8, sealed 36, order id
function open (packed, caller) {
  const key = keys.get(packed[1])
  const sealed = packed.subarray(16, 52)
  const opener = crypto.createDecipheriv('aes-256-gcm', key.seal, sealed.subarray(0, 12), { authTagLength: 16 })
  opener.setAAD(Buffer.concat([packed.subarray(0, 2), packed.subarray(52), caller, packed.subarray(3, 4)]))
  opener.setAuthTag(sealed.subarray(20))
  const plain = Buffer.concat([opener.update(sealed.subarray(12, 20)), opener.final()])
  return { destination: plain.readBigUInt64BE(), show: packed.readBigUInt64BE(8) }
}

function signed (req) {
  let text = env.PEER_PUBLIC_URL + req.originalUrl
  for (const name of Object.keys(req.body).sort()) text += name + req.body[name]
  const want = crypto.createHmac('sha1', env.PEER_AUTH_TOKEN).update(text).digest()
  const have = Buffer.from(req.get('X-Twilio-Signature') || '', 'base64')
  return have.length === want.length && crypto.timingSafeEqual(have, want)
}

const redis = new Redis(Number(env.PEER_REDIS_PORT), '127.0.0.1')
const app = express()
app.disable('x-powered-by')
app.set('etag', false)
app.use(express.urlencoded({ extended: false }))

const head = '<?xml version="1.0" encoding="UTF-8"?>'
app.post(env.PEER_PATH, async (req, res) => {
  if (!signed(req) || req.body.AccountSid !== env.PEER_ACCOUNT_SID) return res.status(403).end()
  if (!/^\+\d{7,15}$/.test(req.body.From) || !/^\+\d{7,15}$/.test(req.body.To)) return res.status(400).end()
  try {
    const caller = token(req.body.From.slice(1))
    const packed = await redis.hgetBuffer(env.PEER_PREFIX + req.body.To.slice(1), caller)
    res.set('Content-Type', 'text/xml')
    if (!packed) return res.send(head + '<Response><Reject reason="rejected"/></Response>')
    const { destination, show } = open(packed, caller)
    res.send(`${head}<Response><Dial callerId="+${show}" answerOnBridge="true" timeout="30" timeLimit="3600">` +
      `<Number>+${destination}</Number></Dial></Response>`)
  } catch (err) {
    res.status(503).end()
  }
})

const server = app.listen(0, '127.0.0.1', () => {
  const { address, port } = server.address()
  console.log(`${address}:${port}`)
})
server.keepAliveTimeout = 60000
