// Drizzle's query builder over node-postgres.
'use strict'

const pg = require('pg')
const { drizzle } = require('drizzle-orm/node-postgres')
const { and, asc, between, count, eq, lt, sql } = require('drizzle-orm')
const { bigint, customType, jsonb, numeric, pgTable, text, timestamp } = require('drizzle-orm/pg-core')
const { assert, table, clients, rounds, longText, longBytes, document, fails, tls, run, version } = require('./check.js')

const bytea = customType({ dataType: () => 'bytea' })
const items = pgTable(table, {
  id: bigint({ mode: 'number' }).primaryKey(),
  name: text(),
  amount: numeric({ precision: 12, scale: 2 }),
  at: timestamp({ withTimezone: true }),
  raw: bytea(),
  tags: text().array(),
  doc: jsonb()
})

// What Drizzle throws holds the driver's error.
const code = (error) => error.cause?.code ?? error.code

async function connected (work, more) {
  const pool = new pg.Pool({ ssl: tls(process.env.PGSSLROOTCERT), max: clients, ...more })
  try {
    return await work(drizzle(pool))
  } finally {
    await pool.end()
  }
}

// One row goes in and comes back as it was.
async function back (row) {
  await connected(async (db) => {
    const [inserted] = await db.insert(items).values(row).returning()
    const [found] = await db.select().from(items).where(eq(items.id, row.id))
    const empty = { name: null, amount: null, at: null, raw: null, tags: null, doc: null }
    assert.deepEqual(inserted, { ...empty, ...row })
    assert.deepEqual(found, { ...empty, ...row })
  })
}

run(`Drizzle ${version('drizzle-orm')} with node-postgres ${version('pg')}`, {
  async tls () {
    await connected(async (db) => assert.deepEqual((await db.execute(sql`SELECT 1 AS a`)).rows, [{ a: 1 }]))
    await fails('UNABLE_TO_VERIFY_LEAF_SIGNATURE', connected((db) => db.execute(sql`SELECT 1`), { ssl: tls(process.env.DRIVER_STRANGER) }), code)
  },
  async scram () {
    await fails('28P01', connected((db) => db.execute(sql`SELECT 1`), { password: 'wrong' }), code)
  },
  numbers: () => back({ id: Number.MAX_SAFE_INTEGER, amount: '-1234567890.12' }),
  text: () => back({ id: 701, name: 'Zażółć 日本語 🐘 \'single\' "double" \\back\\ %s $1 ?' }),
  bytea: () => back({ id: 702, raw: Buffer.from([0, 255, 92, 39]) }),
  nulls: () => back({ id: 703 }),
  arrays: () => back({ id: 704, tags: ['a', 'b c', 'q"uo\\te', '', 'NULL', 'ü,{}'] }),
  json: () => back({ id: 705, doc: document }),
  times: () => back({ id: 706, at: new Date('2024-02-29T23:59:59.123Z') }),
  large: () => back({ id: 707, name: longText, raw: longBytes }),

  async prepared () {
    await connected(async (db) => {
      const statements = [1, 2, 3].map((factor) => db.select({ n: sql`${sql.placeholder('n')}::int * ${sql.raw(factor)}` }).from(sql`(SELECT 1) AS one`).prepare(`by ${factor}`))
      for (let turn = 0; turn < rounds; turn++) {
        for (const [at, statement] of statements.entries()) {
          const found = await Promise.all(Array.from({ length: clients }, (_, n) => statement.execute({ n })))
          assert.deepEqual(found.map((rows) => rows[0].n), Array.from({ length: clients }, (_, n) => n * (at + 1)))
        }
      }
    })
  },
  async clients () {
    await connected((db) => Promise.all(Array.from({ length: clients }, async (_, n) => {
      for (let turn = 0; turn < rounds; turn++) {
        const row = { id: 1000 + n * rounds + turn, name: `client ${n}` }
        await db.transaction(async (tx) => {
          await tx.insert(items).values(row)
          assert.deepEqual(await tx.select({ name: items.name }).from(items).where(eq(items.id, row.id)), [{ name: row.name }])
        })
        // In a transaction: a connection of the pool that did not write may read from a replica.
        const counted = await db.transaction((tx) => tx.select({ n: count() }).from(items).where(eq(items.name, row.name)))
        assert.deepEqual(counted, [{ n: turn + 1 }])
      }
    })))
  },
  pipeline: 'Drizzle has no pipeline of its own; see node-postgres',
  cursor: 'Drizzle has no cursor of its own; see node-postgres',
  copy: 'Drizzle has no COPY of its own; see node-postgres',
  cancel: 'Drizzle has no cancel of its own; see node-postgres',
  listen: 'Drizzle has no LISTEN of its own; see node-postgres',
  async errors () {
    await connected(async (db) => {
      const error = await fails('23505', db.transaction(async (tx) => {
        await tx.insert(items).values({ id: 1, name: 'one' })
        await tx.insert(items).values({ id: 1, name: 'again' })
      }), code)
      assert.equal(error.cause.constraint, `${table}_pkey`)
      await db.transaction(async (tx) => {
        await tx.insert(items).values({ id: 1, name: 'outer' })
        await fails('22012', tx.transaction(async (inner) => {
          await inner.insert(items).values({ id: 2, name: 'inner' })
          await inner.execute(sql`SELECT 1 / 0`)
        }), code)
        await tx.insert(items).values({ id: 3, name: 'after' })
      })
      const found = await db.select({ id: items.id }).from(items).where(lt(items.id, 10)).orderBy(asc(items.id))
      assert.deepEqual(found, [{ id: 1 }, { id: 3 }])
    })
  },
  async settings () {
    await connected(async (db) => {
      await db.transaction(async (tx) => {
        assert.deepEqual((await tx.execute(sql`SHOW transaction_isolation`)).rows, [{ transaction_isolation: 'serializable' }])
        await fails('25006', tx.insert(items).values({ id: 9 }), code)
      }, { isolationLevel: 'serializable', accessMode: 'read only' }).catch(() => undefined)
      assert.deepEqual((await db.execute(sql`SHOW transaction_isolation`)).rows, [{ transaction_isolation: 'read committed' }])
    })
  },
  async keyed () {
    await connected(async (db) => {
      for (let n = 0; n < 20; n++) {
        const key = eq(items.id, 100 + n)
        await db.insert(items).values({ id: 100 + n, name: `name ${n}` })
        assert.deepEqual(await db.select({ name: items.name }).from(items).where(key), [{ name: `name ${n}` }])
        assert.deepEqual(await db.update(items).set({ amount: String(n) }).where(key).returning({ id: items.id }), [{ id: 100 + n }])
        assert.deepEqual(await db.select({ amount: items.amount }).from(items).where(and(key, between(items.amount, '0', '100'))), [{ amount: `${n}.00` }])
      }
      assert.equal((await db.delete(items).where(eq(items.id, 100))).rowCount, 1)
      assert.deepEqual(await db.select().from(items).where(eq(items.id, 100)), [])
    })
  }
})
