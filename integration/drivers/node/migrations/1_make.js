'use strict'

exports.up = async (knex) => {
  await knex.schema.createTable('guests', (table) => {
    table.bigInteger('id').primary()
    table.string('name').notNullable()
    table.timestamps(true, true)
    table.comment('ringway: key=id')
  })
  await knex.schema.createTable('stays', (table) => {
    table.bigInteger('guest').references('guests.id')
    table.bigInteger('number')
    table.enu('kind', ['long', 'short'], { useNative: true, enumName: 'stay_kind' })
    table.primary(['guest', 'number'])
    table.comment('ringway: key=guest')
  })
  await knex('guests').insert([1, 2, 3, 4].map((id) => ({ id, name: `name ${id}` })))
  await knex('stays').insert([1, 2, 3, 4].map((guest) => ({ guest, number: 1, kind: 'long' })))
  await knex.schema.alterTable('stays', (table) => {
    table.text('note').defaultTo('none')
    table.index(['note'])
  })
  await knex('stays').where('guest', '>', 2).update({ note: 'late' })
}

exports.down = async (knex) => {
  await knex.schema.dropTable('stays')
  await knex.schema.dropTable('guests')
  await knex.raw('DROP TYPE stay_kind')
}
