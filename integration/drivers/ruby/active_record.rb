# frozen_string_literal: true

# Rails' migrations there and back, under its advisory lock, and the dump of the schema.

require 'active_record'
require 'pg'
require 'stringio'

class Make < ActiveRecord::Migration[6.1]
  def change
    create_table(:readers, id: :bigint, default: nil, comment: 'ringway: key=id') do |t|
      t.string :name, null: false, index: true
      t.timestamps
    end
    create_table(:loans, primary_key: %i[reader number], comment: 'ringway: key=reader') do |t|
      t.bigint :reader, null: false
      t.bigint :number, null: false
      t.decimal :fee, precision: 8, scale: 2
    end
    add_foreign_key :loans, :readers, column: :reader
    add_column :loans, :state, :string, default: 'new', null: false
    up_only { execute 'INSERT INTO readers SELECT n, n::text, now(), now() FROM generate_series(1, 3) n' }
    up_only { execute "UPDATE readers SET name = 'late' WHERE id > 1" }
  end
end

class Index < ActiveRecord::Migration[6.1]
  disable_ddl_transaction!
  def change
    add_index :loans, :state, algorithm: :concurrently
  end
end

def expect(found, expected)
  raise "expected #{expected.inspect}, found #{found.inspect}" unless found == expected
end

def migrations
  ActiveRecord::Base.establish_connection(adapter: 'postgresql', database: ENV.fetch('PGDATABASE'))
  ActiveRecord::Migration.verbose = false
  db = ActiveRecord::Base.connection
  db.execute('SET client_min_messages = warning')
  versions = ActiveRecord::SchemaMigration
  steps = [Make.new('Make', 1), Index.new('Index', 2)]
  versions.create_table
  ActiveRecord::InternalMetadata.create_table
  ActiveRecord::Migrator.new(:up, steps, versions).migrate
  expect(versions.all_versions, %w[1 2])
  expect(db.select_value("SELECT count(*) FROM readers WHERE name = 'late'"), 2)
  dump = StringIO.new
  ActiveRecord::SchemaDumper.dump(db, dump)
  expect(dump.string.include?('add_foreign_key "loans", "readers", column: "reader"'), true)
  ActiveRecord::Migrator.new(:down, steps, versions).migrate
  expect(db.tables & %w[readers loans], [])
  db.drop_table(:schema_migrations)
  db.drop_table(:ar_internal_metadata)
end

$stdout.sync = true
puts "version ActiveRecord #{ActiveRecord.version} with Ruby pg #{PG::VERSION}"
begin
  migrations
  puts 'ok migrations'
rescue StandardError => e
  puts "failed migrations: #{e.class}: #{e.message.gsub(/\s+/, ' ')} #{e.backtrace.grep(/active_record.rb/).first(2)}"
end
