// What the Node programs share: values with their server's text, and the running of checks.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')

const table = process.env.DRIVER_TABLE
const clients = 8
const rounds = 5
const megabyte = 1 << 20
// No two neighbours are alike, so that a part that is lost or sent twice shows.
const longText = Array.from({ length: megabyte / 8 }, (_, n) => String(n).padStart(6, '0') + 'ü').join('')
const longBytes = Buffer.from(Array.from({ length: megabyte }, (_, n) => (n * 7) % 256))
const allBytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n))
const document = { a: [1, 2.5, { b: null }], 'ü': '☃ "quoted" \\', long: 'x'.repeat(5000) }
const text = 'Zażółć 日本語 🐘 \'single\' "double" \\back\\ %s $1 :a ?\n\ttab'

// JavaScript has no integer of 64 bits and no decimal: both drivers answer them as text.
const values = [
  ['numbers', 'int2', -32768, '-32768'],
  ['numbers', 'int4', 2147483647, '2147483647'],
  ['numbers', 'int8', '-9223372036854775808', '-9223372036854775808'],
  ['numbers', 'float8', 0.1, '0.1'],
  ['numbers', 'numeric', '12345678901234567890.123456789', '12345678901234567890.123456789'],
  ['numbers', 'bool', true, 'true'],
  ['numbers', 'uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
  ['text', 'text', text, text],
  ['text', 'text', '', ''],
  ['bytea', 'bytea', allBytes, '\\x' + allBytes.toString('hex')],
  ['nulls', 'int4', null, null],
  ['nulls', 'text', null, null],
  ['nulls', 'bytea', null, null],
  ['nulls', 'timestamptz', null, null],
  ['arrays', 'int4[]', [1, 2, -3], '{1,2,-3}'],
  // Without NULL, which postgres.js does not read in arrays.
  ['arrays', 'text[]', ['a', 'b c', 'q"uo\\te', '', 'ü,{}'], '{a,"b c","q\\"uo\\\\te","","ü,{}"}'],
  ['arrays', 'int4[]', [[1, 2], [3, 4]], '{{1,2},{3,4}}'],
  ['times', 'timestamptz', new Date('2024-02-29T23:59:59.123Z'), '2024-02-29 23:59:59.123+00'],
  ['times', 'timestamp', new Date('2024-02-29T23:59:59.123Z'), '2024-02-29 23:59:59.123'],
  ['times', 'time', '23:59:59.123456', '23:59:59.123456'],
]

class Absent extends Error {}

async function fails (sqlstate, promise, code = (error) => error.code) {
  let error
  try {
    await promise
  } catch (caught) {
    error = caught
  }
  assert(error, `no error, expected ${sqlstate}`)
  assert.equal(code(error), sqlstate, `expected ${sqlstate}: ${error.stack}`)
  return error
}

const later = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000))

// Calls `stop` until `work` has ended: what is to be stopped may not have begun.
async function repeatedly (stop, work) {
  let ended = false
  const stopping = (async () => {
    for (await later(0.2); !ended; await later(0.2)) await stop()
  })()
  try {
    return await work
  } finally {
    ended = true
    await stopping
  }
}

const tls = (authority) => ({ rejectUnauthorized: true, ca: fs.readFileSync(authority) })

// Not by require(), which a package may forbid.
const version = (name) => JSON.parse(fs.readFileSync(`${process.env.NODE_PATH}/${name}/package.json`)).version

async function run (driver, checks) {
  console.log('version', driver)
  for (const name of process.env.DRIVER_CHECKS.split(',')) {
    const check = checks[name]
    try {
      if (typeof check !== 'function') throw new Absent(check ?? 'not in this driver')
      let timer
      const tooLong = new Promise((_resolve, reject) => {
        timer = setTimeout(() => reject(new Error('took longer than 30 s')), 30000)
      })
      await Promise.race([check(), tooLong]).finally(() => clearTimeout(timer))
      console.log('ok', name)
    } catch (error) {
      if (error instanceof Absent) {
        console.log(`absent ${name}: ${error.message}`)
        continue
      }
      console.log(`failed ${name}: ${String(error.message).replace(/\s+/g, ' ').slice(0, 500)}`)
      if (process.env.DRIVER_TRACE) console.log(error.stack)
    }
  }
  process.exit(0)
}

module.exports = { assert, table, clients, rounds, longText, longBytes, document, values, fails, later, repeatedly, tls, run, version }
