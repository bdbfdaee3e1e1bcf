// postgres.js: everything is prepared and pipelined, and types are asked for when it connects.
'use strict'

const postgres = require('postgres')
const { Readable } = require('node:stream')
const { pipeline: pipe } = require('node:stream/promises')
const { assert, table, clients, rounds, longText, longBytes, document, values, fails, later, tls, run, version } = require('./check.js')

// It reads libpq's variables, but not those of TLS.
async function connected (work, more) {
  const sql = postgres({ max: 1, ssl: tls(process.env.PGSSLROOTCERT), ...more })
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

async function several (work, more = () => ({})) {
  const dbs = Array.from({ length: clients }, (_, n) => postgres({ max: 1, ssl: tls(process.env.PGSSLROOTCERT), ...more(n) }))
  try {
    await work(dbs)
  } finally {
    for (const sql of dbs) await sql.end({ timeout: 5 })
  }
}

const one = (rows) => Object.values(rows[0])
const count = Array.from({ length: 1000 }, (_, n) => n + 1)

const checks = {
  async tls () {
    await connected(async (sql) => assert.deepEqual(one(await sql`SELECT 1`), [1]))
    await fails('UNABLE_TO_VERIFY_LEAF_SIGNATURE', connected((sql) => sql`SELECT 1`, { ssl: tls(process.env.DRIVER_STRANGER) }))
  },

  async scram () {
    await fails('28P01', connected((sql) => sql`SELECT 1`, { password: 'wrong' }))
  },

  async json () {
    await connected(async (sql) => {
      assert.deepEqual(one(await sql`SELECT ${sql.json(document)}::json AS a, ${sql.json(document)}::jsonb->'a'->>0 AS b`), [document, '1'])
      assert.deepEqual(one(await sql`SELECT ${sql.json(document)}::jsonb AS a`), [document])
    })
  },

  async large () {
    await connected(async (sql) => {
      for (let n = 0; n < 3; n++) {
        const found = one(await sql`SELECT ${longText}::text AS a, ${longBytes}::bytea AS b`)
        assert(found[0] === longText && found[1].equals(longBytes))
      }
      const many = await sql`SELECT n, repeat('x', 100) AS x FROM generate_series(1, 20000) n`
      assert.equal(many.reduce((sum, row) => sum + row.n, 0), 200010000)
    })
  },

  async prepared () {
    await several(async (dbs) => {
      for (let turn = 0; turn < rounds; turn++) {
        for (const [n, sql] of dbs.entries()) {
          assert.deepEqual(one(await sql.unsafe(`SELECT 'client ${n}' AS a, $1::int + ${n} AS b`, [turn], { prepare: true })), [`client ${n}`, turn + n])
          await fails('22012', sql.unsafe(`SELECT ${n} / $1::int AS a`, [0], { prepare: true }))
          assert.deepEqual(one(await sql.unsafe(`SELECT ${n} / $1::int AS a`, [1], { prepare: true })), [n])
        }
      }
      await Promise.all(dbs.map(async (sql, n) => {
        for (let turn = 0; turn < rounds; turn++) {
          assert.deepEqual(one(await sql.unsafe(`SELECT 'client ${n}' AS a, $1::int + ${n} AS b`, [turn], { prepare: true })), [`client ${n}`, turn + n])
        }
      }))
    })
  },

  async clients () {
    await connected(async (sql) => {
      await Promise.all(Array.from({ length: clients }, async (_, n) => {
        for (let turn = 0; turn < rounds; turn++) {
          const row = { id: 1000 + n * rounds + turn, name: `client ${n}` }
          await sql.begin(async (sql) => {
            await sql`INSERT INTO ${sql(table)} ${sql(row)}`
            assert.deepEqual(one(await sql`SELECT name FROM ${sql(table)} WHERE id = ${row.id}`), [row.name])
          })
          // In a transaction: a connection of the pool that did not write may read from a replica.
          await sql.begin(async (sql) => assert.deepEqual(one(await sql`SELECT count(*)::int FROM ${sql(table)} WHERE name = ${row.name}`), [turn + 1]))
        }
      }))
    }, { max: clients })
  },

  async pipeline () {
    await connected(async (sql) => {
      const found = await Promise.all(Array.from({ length: 100 }, (_, n) => sql`SELECT ${n}::int AS a`))
      assert.deepEqual(found.map((rows) => rows[0].a), Array.from({ length: 100 }, (_, n) => n))
      const mixed = await Promise.allSettled([0, 1, 0, 2].map((by) => sql`SELECT 4 / ${by}::int AS a`))
      assert.deepEqual(mixed.map((each) => each.reason?.code ?? each.value[0].a), ['22012', 4, '22012', 2])
      // An array of queries goes out at once, in one transaction.
      await sql.begin((sql) => Array.from({ length: 50 }, (_, n) => sql`INSERT INTO ${sql(table)} ${sql({ id: 2000 + n, name: 'pipeline' })}`))
      assert.deepEqual(one(await sql`SELECT count(*)::int FROM ${sql(table)} WHERE name = 'pipeline'`), [50])
    })
  },

  async cursor () {
    await connected(async (sql) => {
      const found = []
      await sql`SELECT n FROM generate_series(1, 1000) n`.cursor(100, (rows) => { found.push(...rows.map((row) => row.n)) })
      assert.deepEqual(found, count)
      const first = []
      await sql`SELECT n FROM generate_series(1, 1000) n`.cursor(2, (rows) => {
        first.push(...rows.map((row) => row.n))
        if (first.length === 4) return sql.CLOSE
      })
      assert.deepEqual(first, [1, 2, 3, 4])
      const each = []
      await sql`SELECT n FROM generate_series(1, 1000) n`.forEach((row) => { each.push(row.n) })
      assert.deepEqual(each, count)
    })
  },

  async copy () {
    await connected(async (sql) => {
      const lines = Array.from({ length: 1000 }, (_, n) => `${3000 + n}\tcopied ${n}\n`)
      await pipe(Readable.from(lines), await sql`COPY ${sql(table)} (id, name) FROM STDIN`.writable())
      const chunks = []
      for await (const chunk of await sql`COPY (SELECT id, name FROM ${sql(table)} WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT`.readable()) chunks.push(chunk)
      assert.equal(Buffer.concat(chunks).toString(), lines.join(''))
      assert.deepEqual(one(await sql`SELECT 1`), [1])
    })
  },

  async cancel () {
    await connected(async (sql) => {
      const query = sql`SELECT pg_sleep(20)`
      const ended = fails('57014', query.execute())
      await later(0.5)
      query.cancel()
      await ended
      for (let n = 0; n < 20; n++) assert.deepEqual(one(await sql`SELECT 1`), [1])
    })
  },

  async errors () {
    await connected(async (sql) => {
      const error = await fails('23505', sql.begin(async (sql) => {
        await sql`INSERT INTO ${sql(table)} ${sql({ id: 1, name: 'one' })}`
        await sql`INSERT INTO ${sql(table)} ${sql({ id: 1, name: 'again' })}`
      }))
      assert.equal(error.constraint_name, `${table}_pkey`)
      assert.equal(error.detail, 'Key (id)=(1) already exists.')
      assert.deepEqual(one(await sql`SELECT count(*)::int FROM ${sql(table)} WHERE id = 1`), [0])
      await sql.begin(async (sql) => {
        await sql`INSERT INTO ${sql(table)} ${sql({ id: 1, name: 'outer' })}`
        await fails('22012', sql.savepoint(async (sql) => {
          await sql`INSERT INTO ${sql(table)} ${sql({ id: 2, name: 'inner' })}`
          await sql`SELECT 1 / 0`
        }))
        await sql`INSERT INTO ${sql(table)} ${sql({ id: 3, name: 'after' })}`
      })
      assert.deepEqual((await sql`SELECT id::int FROM ${sql(table)} WHERE id < 10 ORDER BY id`).map((row) => row.id), [1, 3])
      // Several statements in one text are one transaction.
      await fails('22012', sql.unsafe(`INSERT INTO ${table} (id) VALUES (4); SELECT 1 / 0`))
      assert.deepEqual(one(await sql`SELECT count(*)::int FROM ${sql(table)} WHERE id = 4`), [0])
    })
    const notices = []
    await connected((sql) => sql`DO $$ BEGIN RAISE NOTICE 'hello'; END $$`, { onnotice: (notice) => notices.push(notice.message) })
    assert.deepEqual(notices, ['hello'])
  },

  async settings () {
    await several(async (dbs) => {
      for (const [n, sql] of dbs.entries()) {
        await sql.unsafe(`SET TIME ZONE 'Etc/GMT+${n}'`)
        await sql.unsafe(`SET search_path = s${n}, public`)
      }
      for (let turn = 0; turn < rounds; turn++) {
        for (const [n, sql] of dbs.entries()) {
          const found = one(await sql`SELECT current_setting('application_name') AS a, current_setting('timezone') AS b, current_setting('search_path') AS c, current_setting('statement_timeout') AS d`)
          assert.deepEqual(found, [`client ${n}`, `Etc/GMT+${n}`, `s${n}, public`, `${n + 1}min`])
        }
      }
    }, (n) => ({ connection: { application_name: `client ${n}`, statement_timeout: (n + 1) * 60000 } }))
  },

  async listen () {
    await connected(async (sql) => {
      const found = []
      let enough
      const all = new Promise((resolve) => { enough = resolve })
      const { unlisten } = await sql.listen('postgres_js', (payload) => {
        found.push(payload)
        if (found.length === 3) enough()
      })
      for (let n = 0; n < 3; n++) await sql.notify('postgres_js', `message ${n}`)
      await all
      assert.deepEqual(found, ['message 0', 'message 1', 'message 2'])
      await unlisten()
    })
  },

  async keyed () {
    await connected(async (sql) => {
      for (let n = 0; n < 20; n++) {
        const id = 100 + n
        await sql`INSERT INTO ${sql(table)} ${sql({ id, name: `name ${n}` })}`
        assert.deepEqual(one(await sql`SELECT name FROM ${sql(table)} WHERE id = ${id}`), [`name ${n}`])
        assert.equal((await sql`UPDATE ${sql(table)} SET amount = ${n} WHERE id = ${id}`).count, 1)
        await sql.begin(async (sql) => {
          await sql`UPDATE ${sql(table)} SET amount = amount + 1 WHERE id = ${id}`
          assert.deepEqual(one(await sql`SELECT amount::int FROM ${sql(table)} WHERE id = ${id}`), [n + 1])
        })
        assert.deepEqual(one(await sql`SELECT amount::int FROM ${sql(table)} WHERE id = ${id}`), [n + 1])
      }
      assert.equal((await sql`DELETE FROM ${sql(table)} WHERE id = ${100}`).count, 1)
      assert.deepEqual([...await sql`SELECT name FROM ${sql(table)} WHERE id = ${100}`], [])
    })
  }
}

for (const [capability] of values) {
  checks[capability] = () => connected(async (sql) => {
    for (const [name, kind, value, asText] of values) {
      if (name !== capability) continue
      for (let turn = 0; turn < 3; turn++) {
        const found = one(await sql.unsafe(`SELECT $1::${kind} AS a, ($1::${kind})::text AS b`, [value], { prepare: true }))
        assert.deepEqual(found, [value, asText])
      }
    }
  })
}

process.env.TZ = 'UTC'
run(`postgres.js ${version('postgres')}`, checks)
