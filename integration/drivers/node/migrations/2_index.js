'use strict'

exports.config = { transaction: false }
exports.up = (knex) => knex.raw('CREATE INDEX CONCURRENTLY stays_kind ON stays (kind)')
exports.down = (knex) => knex.raw('DROP INDEX CONCURRENTLY stays_kind')
