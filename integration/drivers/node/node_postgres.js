// node-postgres (pg), with its pool, its cursors and its COPY streams.
'use strict'

const pg = require('pg')
const Cursor = require('pg-cursor')
const copyStreams = require('pg-copy-streams')
const { Readable } = require('node:stream')
const { pipeline: pipe } = require('node:stream/promises')
const { assert, table, clients, rounds, longText, longBytes, document, values, fails, repeatedly, tls, run, version } = require('./check.js')

// pg reads libpq's variables, but not PGSSLROOTCERT.
const settings = (more) => ({ ssl: tls(process.env.PGSSLROOTCERT), ...more })

async function connected (work, more) {
  const db = new pg.Client(settings(more))
  await db.connect()
  try {
    return await work(db)
  } finally {
    await db.end()
  }
}

async function several (work, more = () => ({})) {
  const dbs = []
  try {
    for (let n = 0; n < clients; n++) {
      dbs.push(new pg.Client(settings(more(n))))
      await dbs[n].connect()
    }
    await work(dbs)
  } finally {
    for (const db of dbs) await db.end()
  }
}

const rows = (result) => result.rows
const one = (result) => Object.values(result.rows[0])

const checks = {
  async tls () {
    await connected(async (db) => {
      assert.deepEqual(one(await db.query('SELECT 1')), [1])
      assert(db.connection.stream.encrypted && db.connection.stream.authorized)
    })
    const stranger = new pg.Client({ ssl: tls(process.env.DRIVER_STRANGER) })
    await fails('SELF_SIGNED_CERT_IN_CHAIN', stranger.connect(), (e) => e.code === 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' ? 'SELF_SIGNED_CERT_IN_CHAIN' : e.code)
  },

  async scram () {
    await fails('28P01', new pg.Client(settings({ password: 'wrong' })).connect())
  },

  async json () {
    await connected(async (db) => {
      for (const kind of ['json', 'jsonb']) {
        const found = one(await db.query(`SELECT $1::${kind} AS a, ($1::${kind})->'a'->>0 AS b`, [document]))
        assert.deepEqual(found, [document, '1'])
      }
    })
  },

  async large () {
    await connected(async (db) => {
      for (let n = 0; n < 3; n++) {
        const found = one(await db.query('SELECT $1::text AS a, $2::bytea AS b', [longText, longBytes]))
        assert(found[0] === longText && found[1].equals(longBytes))
      }
      const many = rows(await db.query("SELECT n, repeat('x', 100) AS x FROM generate_series(1, 20000) n"))
      assert.equal(many.reduce((sum, row) => sum + row.n, 0), 200010000)
    })
  },

  async prepared () {
    await several(async (dbs) => {
      for (let turn = 0; turn < rounds; turn++) {
        for (const [n, db] of dbs.entries()) {
          const statement = { name: 'mine', text: `SELECT 'client ${n}' AS a, $1::int + ${n} AS b`, values: [turn] }
          assert.deepEqual(one(await db.query(statement)), [`client ${n}`, turn + n])
          const division = (by) => ({ name: 'division', text: `SELECT ${n} / $1::int AS a`, values: [by] })
          await fails('22012', db.query(division(0)))
          assert.deepEqual(one(await db.query(division(1))), [n])
        }
      }
      await Promise.all(dbs.map(async (db, n) => {
        for (let turn = 0; turn < rounds; turn++) {
          const statement = { name: 'mine', text: `SELECT 'client ${n}' AS a, $1::int + ${n} AS b`, values: [turn] }
          assert.deepEqual(one(await db.query(statement)), [`client ${n}`, turn + n])
        }
      }))
    })
  },

  async clients () {
    const pool = new pg.Pool(settings({ max: clients }))
    await Promise.all(Array.from({ length: clients }, async (_, n) => {
      for (let turn = 0; turn < rounds; turn++) {
        const key = 1000 + n * rounds + turn
        const db = await pool.connect()
        await db.query('BEGIN')
        await db.query(`INSERT INTO ${table} (id, name) VALUES ($1, $2)`, [key, `client ${n}`])
        assert.deepEqual(one(await db.query(`SELECT name FROM ${table} WHERE id = $1`, [key])), [`client ${n}`])
        await db.query('COMMIT')
        assert.deepEqual(one(await db.query(`SELECT count(*)::int FROM ${table} WHERE name = $1`, [`client ${n}`])), [turn + 1])
        db.release()
      }
    }))
    await pool.end()
  },

  async cursor () {
    await connected(async (db) => {
      await db.query('BEGIN')
      const cursor = db.query(new Cursor('SELECT n FROM generate_series($1::int, 1000) n', [1]))
      const found = []
      for (;;) {
        const part = await cursor.read(100)
        if (part.length === 0) break
        found.push(...part.map((row) => row.n))
      }
      assert.deepEqual(found, Array.from({ length: 1000 }, (_, n) => n + 1))
      await cursor.close()
      await db.query('COMMIT')
    })
    // Outside of a transaction the portal lives until Sync, which pg-cursor sends at the end; one that is left early is closed.
    for (let n = 0; n < clients; n++) {
      await connected(async (db) => {
        const cursor = db.query(new Cursor('SELECT n FROM generate_series(1, 1000) n'))
        assert.deepEqual((await cursor.read(2)).map((row) => row.n), [1, 2])
        assert.deepEqual((await cursor.read(2)).map((row) => row.n), [3, 4])
        await cursor.close()
        assert.deepEqual(one(await db.query('SELECT 1')), [1])
      })
    }
  },

  async copy () {
    await connected(async (db) => {
      const lines = Array.from({ length: 1000 }, (_, n) => `${3000 + n}\tcopied ${n}\n`)
      const into = db.query(copyStreams.from(`COPY ${table} (id, name) FROM STDIN`))
      await pipe(Readable.from(lines), into)
      assert.equal(into.rowCount, 1000)
      const out = db.query(copyStreams.to(`COPY (SELECT id, name FROM ${table} WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT`))
      const chunks = []
      for await (const chunk of out) chunks.push(chunk)
      assert.equal(Buffer.concat(chunks).toString(), lines.join(''))
      const refused = db.query(copyStreams.from(`COPY ${table} (id) FROM STDIN`))
      await fails('22P02', pipe(Readable.from(['not a number\n']), refused))
      assert.deepEqual(one(await db.query('SELECT 1')), [1])
      const left = db.query(copyStreams.from(`COPY ${table} (id) FROM STDIN`))
      const failing = async function * () {
        yield '5000\n'
        throw new Error('the client gives up')
      }
      await fails(undefined, pipe(Readable.from(failing()), left))
      assert.deepEqual(one(await db.query(`SELECT count(*)::int FROM ${table} WHERE id = 5000`)), [0])
    })
  },

  async cancel () {
    await connected(async (db) => {
      // pg cancels with a second client, which sends the first one's key.
      const stop = () => new Promise((resolve, reject) => {
        const other = new pg.Client(settings())
        other.connection.once('end', resolve)
        other.connection.once('error', reject)
        other.cancel(db, query)
      })
      const query = new pg.Query('SELECT pg_sleep(20)')
      const ended = new Promise((resolve, reject) => {
        query.on('error', reject)
        query.on('end', resolve)
      })
      db.query(query)
      await fails('57014', repeatedly(stop, ended))
      for (let n = 0; n < 20; n++) assert.deepEqual(one(await db.query('SELECT 1')), [1])
    })
  },

  async errors () {
    await connected(async (db) => {
      await db.query('BEGIN')
      await db.query(`INSERT INTO ${table} (id, name) VALUES (1, 'one')`)
      const error = await fails('23505', db.query(`INSERT INTO ${table} (id, name) VALUES ($1, 'again')`, [1]))
      assert.equal(error.constraint, `${table}_pkey`)
      assert.equal(error.detail, 'Key (id)=(1) already exists.')
      await fails('25P02', db.query('SELECT $1::int', [1]))
      await db.query('ROLLBACK')
      assert.deepEqual(one(await db.query(`SELECT count(*)::int FROM ${table} WHERE id = 1`)), [0])
      await db.query('BEGIN')
      await db.query(`INSERT INTO ${table} (id, name) VALUES (1, 'outer')`)
      await db.query('SAVEPOINT s')
      await fails('22012', db.query('SELECT 1 / 0'))
      await db.query('ROLLBACK TO s')
      await db.query('COMMIT')
      assert.deepEqual(rows(await db.query(`SELECT id::int FROM ${table} WHERE id < 10`)), [{ id: 1 }])
      assert.equal((await fails('42601', db.query('SELECT 1 FROM FROM'))).position, '15')
      // Several statements in one text are one transaction.
      await fails('22012', db.query(`INSERT INTO ${table} (id) VALUES (2); SELECT 1 / 0`))
      assert.deepEqual(one(await db.query(`SELECT count(*)::int FROM ${table} WHERE id = 2`)), [0])
      const notices = []
      db.on('notice', (notice) => notices.push(notice.message))
      await db.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
      assert.deepEqual(notices, ['hello'])
    })
  },

  async settings () {
    await several(async (dbs) => {
      for (const [n, db] of dbs.entries()) {
        await db.query(`SET TIME ZONE 'Etc/GMT+${n}'`)
        await db.query(`SET search_path = s${n}, public`)
      }
      for (let turn = 0; turn < rounds; turn++) {
        for (const [n, db] of dbs.entries()) {
          const found = one(await db.query("SELECT current_setting('application_name') AS a, current_setting('timezone') AS b, current_setting('search_path') AS c, current_setting('statement_timeout') AS d"))
          assert.deepEqual(found, [`client ${n}`, `Etc/GMT+${n}`, `s${n}, public`, `${n + 1}min`])
        }
      }
    }, (n) => ({ application_name: `client ${n}`, statement_timeout: (n + 1) * 60000 }))
  },

  async listen () {
    await connected((listener) => connected(async (sender) => {
      const found = []
      const all = new Promise((resolve) => listener.on('notification', (message) => {
        found.push([message.channel, message.payload])
        if (found.length === 3) resolve()
      }))
      await listener.query('LISTEN node_postgres')
      for (let n = 0; n < 3; n++) await sender.query("SELECT pg_notify('node_postgres', $1)", [`message ${n}`])
      await all
      assert.deepEqual(found, [0, 1, 2].map((n) => ['node_postgres', `message ${n}`]))
    }))
  },

  async pipeline () {
    await connected(async (db) => {
      const found = await Promise.all(Array.from({ length: 100 }, (_, n) => db.query('SELECT $1::int AS a', [n])))
      assert.deepEqual(found.map((result) => result.rows[0].a), Array.from({ length: 100 }, (_, n) => n))
      // Each has a Sync of its own, so that an error ends nothing but its own statement.
      const mixed = await Promise.allSettled([0, 1, 0, 2].map((by) => db.query({ name: 'division', text: 'SELECT 4 / $1::int AS a', values: [by] })))
      assert.deepEqual(mixed.map((each) => each.reason?.code ?? each.value.rows[0].a), ['22012', 4, '22012', 2])
      const block = ['BEGIN', `INSERT INTO ${table} (id, name) VALUES (2000, 'pipeline')`, 'SELECT 1 / 0', `INSERT INTO ${table} (id) VALUES (2001)`, 'ROLLBACK']
      const ended = await Promise.allSettled(block.map((text) => db.query(text)))
      assert.deepEqual(ended.map((each) => each.reason?.code ?? each.value.command), ['BEGIN', 'INSERT', '22012', '25P02', 'ROLLBACK'])
      assert.deepEqual(one(await db.query(`SELECT count(*)::int FROM ${table} WHERE id >= 2000 AND id < 2010`)), [0])
    }, { pipeline: true })
  },

  async keyed () {
    await connected(async (db) => {
      for (let n = 0; n < 20; n++) {
        const key = 100 + n
        await db.query(`INSERT INTO ${table} (id, name) VALUES ($1, $2)`, [key, `name ${n}`])
        const read = { name: 'read', text: `SELECT name FROM ${table} WHERE id = $1`, values: [key] }
        assert.deepEqual(rows(await db.query(read)), [{ name: `name ${n}` }])
        assert.equal((await db.query({ name: 'write', text: `UPDATE ${table} SET amount = $1 WHERE id = $2`, values: [n, key] })).rowCount, 1)
        assert.deepEqual(one(await db.query(`SELECT amount::int FROM ${table} WHERE id = $1`, [key])), [n])
      }
      assert.equal((await db.query(`DELETE FROM ${table} WHERE id = 100`)).rowCount, 1)
      assert.deepEqual(rows(await db.query(`SELECT name FROM ${table} WHERE id = $1`, [100])), [])
    })
  }
}

for (const [capability] of values) {
  checks[capability] = () => connected(async (db) => {
    for (const [name, kind, value, asText] of values) {
      if (name !== capability) continue
      for (let turn = 0; turn < 3; turn++) {
        const statement = { name: `${kind} by name`, text: `SELECT $1::${kind} AS a, ($1::${kind})::text AS b`, values: [value] }
        const found = one(await db.query(turn === 0 ? { ...statement, name: undefined } : statement))
        assert.deepEqual(found, [value, asText])
      }
    }
  })
}

process.env.TZ = 'UTC'
run(`node-postgres ${version('pg')}`, checks)
