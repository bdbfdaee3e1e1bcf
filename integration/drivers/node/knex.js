// Knex's migrations there and back.
'use strict'

const assert = require('node:assert/strict')
const path = require('node:path')
const Knex = require('knex')
const { run, tls } = require('./check.js')

run(`Knex ${require('knex/package.json').version} with node-postgres ${require('pg/package.json').version}`, {
  async migrations () {
    const knex = Knex({
      client: 'pg',
      connection: { ssl: tls(process.env.PGSSLROOTCERT) },
      migrations: { directory: path.join(__dirname, 'migrations') },
      pool: { min: 0, max: 2 }
    })
    try {
      assert.equal((await knex.migrate.latest())[1].length, 2)
      assert.deepEqual(await knex('stays').where({ note: 'late' }).count(), [{ count: '2' }])
      assert.deepEqual(Object.keys(await knex('stays').columnInfo()), ['guest', 'number', 'kind', 'note'])
      assert.equal((await knex.migrate.rollback())[1].length, 2)
      assert.equal((await knex.migrate.up())[1].length, 1)
      await knex.migrate.rollback()
      assert.equal(await knex.schema.hasTable('stays'), false)
      await knex.schema.dropTable('knex_migrations')
      await knex.schema.dropTable('knex_migrations_lock')
    } finally {
      await knex.destroy()
    }
  }
})
