# Ruby's pg, over the system's libpq.
require 'json'
require 'pg'

TABLE = ENV.fetch('DRIVER_TABLE')
CLIENTS = 8
ROUNDS = 5
# No two neighbours are alike, so that a part that is lost or sent twice shows.
LONG_TEXT = Array.new((1 << 20) / 8) { |n| format('%06dü', n) }.join
LONG_BYTES = Array.new(1 << 20) { |n| n * 7 % 256 }.pack('C*')
ODD = "Zażółć 日本語 🐘 'single' \"double\" \\back\\ %s $1 :a ?\n\ttab"

def same(found, expected)
  return if found == expected
  raise "expected #{expected.inspect[0, 200]}, found #{found.inspect[0, 200]}"
end

def connect(**more)
  db = PG.connect(more)
  return db unless block_given?
  begin
    yield db
  ensure
    db.close
  end
end

def several(more = ->(_) { {} })
  dbs = Array.new(CLIENTS) { |n| connect(**more.call(n)) }
  yield dbs
ensure
  dbs&.each(&:close)
end

def fails(sqlstate)
  yield
rescue PG::Error => e
  same(e.result&.error_field(PG::PG_DIAG_SQLSTATE), sqlstate)
  e
else
  raise "no error, expected #{sqlstate}"
end

def one(db, sql, values = []) = db.exec_params(sql, values).values.first

def value(kind, text, encoded = text)
  connect do |db|
    db.prepare('value', "SELECT $1::#{kind}, ($1::#{kind}) IS NULL")
    3.times { same(db.exec_prepared('value', [encoded]).values, [[text, text.nil? ? 't' : 'f']]) }
    same(one(db, "SELECT $1::#{kind}", [encoded]), [text])
  end
end

CHECKS = {
  'tls' => lambda {
    connect { |db| same([one(db, 'SELECT 1'), db.ssl_in_use?], [['1'], true]) }
    begin
      connect(sslrootcert: ENV.fetch('DRIVER_STRANGER'))
      raise 'a stranger\'s certificate was trusted'
    rescue PG::ConnectionBad => e
      raise e unless e.message.include?('certificate verify failed')
    end
  },
  'scram' => lambda {
    begin
      connect(password: 'wrong')
      raise 'a wrong password was let in'
    rescue PG::ConnectionBad => e
      raise e unless e.message.include?('password authentication failed')
    end
  },
  'numbers' => lambda {
    { 'int2' => '-32768', 'int8' => '9223372036854775807', 'float8' => '0.1', 'bool' => 't',
      'numeric' => '12345678901234567890.123456789', 'uuid' => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' }.each { |kind, text| value(kind, text) }
    connect do |db|
      db.type_map_for_results = PG::BasicTypeMapForResults.new(db)
      db.type_map_for_queries = PG::BasicTypeMapForQueries.new(db)
      same(one(db, 'SELECT $1::int8, $2::float8, $3::bool', [1 << 40, 2.5, true]), [1 << 40, 2.5, true])
    end
  },
  'text' => -> { [ODD, ''].each { |text| value('text', text) } },
  'bytea' => lambda {
    all = (0..255).to_a.pack('C*')
    connect { |db| same(db.exec_params('SELECT $1::bytea', [{ value: all, format: 1 }], 1).getvalue(0, 0), all) }
    value('bytea', "\\x#{all.unpack1('H*')}")
  },
  'nulls' => -> { %w[int4 text bytea timestamptz].each { |kind| value(kind, nil) } },
  'arrays' => lambda {
    value('int8[]', '{1,NULL,-3}')
    value('int4[]', '{{1,2},{3,4}}')
    list = ['a', 'b c', 'q"uo\\te', '', nil, 'NULL', 'ü,{}']
    connect { |db| same(PG::TextDecoder::Array.new.decode(one(db, 'SELECT $1::text[]', [PG::TextEncoder::Array.new.encode(list)])[0]), list) }
  },
  'json' => lambda {
    document = { 'a' => [1, 2.5, { 'b' => nil }], 'ü' => '☃' }
    connect { |db| same(JSON.parse(one(db, 'SELECT $1::jsonb', [document.to_json])[0]), document) }
  },
  'times' => lambda {
    value('timestamptz', '2024-02-29 23:59:59.123456+00')
    value('timestamp', '2024-02-29 23:59:59.123456')
    value('date', '2024-02-29')
    value('interval', '3 days 00:00:05')
  },
  'large' => lambda {
    connect do |db|
      3.times do
        row = db.exec_params('SELECT $1::text, $2::bytea', [LONG_TEXT, { value: LONG_BYTES, format: 1 }], 1)
        same([row.getvalue(0, 0).force_encoding('UTF-8'), row.getvalue(0, 1)], [LONG_TEXT, LONG_BYTES])
      end
      same(db.exec("SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n").sum { |row| row['n'].to_i }, 200_010_000)
    end
  },
  'prepared' => lambda {
    several do |dbs|
      dbs.each_with_index { |db, n| db.prepare('mine', "SELECT 'client #{n}', $1::int + #{n}") }
      dbs.each_with_index { |db, n| db.prepare('division', "SELECT #{n} / $1::int") }
      ROUNDS.times do |turn|
        dbs.each_with_index do |db, n|
          same(db.exec_prepared('mine', [turn]).values, [["client #{n}", (turn + n).to_s]])
          fails('22012') { db.exec_prepared('division', [0]) }
          same(db.describe_prepared('mine').nparams, 1)
        end
      end
      fails('42P05') { dbs[0].prepare('mine', 'SELECT 1') }
      dbs[0].exec('DEALLOCATE mine')
      fails('26000') { dbs[0].exec_prepared('mine', [1]) }
      same(dbs[1].exec_prepared('mine', [1]).values, [['client 1', '2']])
    end
  },
  'clients' => lambda {
    threads = Array.new(CLIENTS) do |n|
      Thread.new do
        connect do |db|
          ROUNDS.times do |turn|
            key = 1000 + n * ROUNDS + turn
            db.transaction do
              db.exec_params("INSERT INTO #{TABLE} (id, name) VALUES ($1, $2)", [key, "client #{n}"])
              same(one(db, "SELECT name FROM #{TABLE} WHERE id = $1", [key]), ["client #{n}"])
            end
            same(one(db, "SELECT count(*) FROM #{TABLE} WHERE name = $1", ["client #{n}"]), [(turn + 1).to_s])
          end
        end
      end
    end
    threads.each { |thread| thread.report_on_exception = false }
    threads.each(&:join)
  },
  'pipeline' => lambda {
    connect do |db|
      db.enter_pipeline_mode
      50.times { |n| db.send_query_params('SELECT $1::int', [n]) }
      db.pipeline_sync
      db.send_query_params('SELECT 1 / $1::int', [0])
      db.send_query_params('SELECT 1', [])
      db.pipeline_sync
      db.send_query_params('SELECT 2', [])
      db.pipeline_sync
      found = []
      until found.count(:sync) == 3
        result = db.get_result or next
        found << case result.result_status
                 when PG::PGRES_PIPELINE_SYNC then :sync
                 when PG::PGRES_PIPELINE_ABORTED then :aborted
                 when PG::PGRES_FATAL_ERROR then result.error_field(PG::PG_DIAG_SQLSTATE)
                 else result.getvalue(0, 0).to_i
                 end
      end
      same(found, (0...50).to_a + [:sync, '22012', :aborted, :sync, 2, :sync])
      db.exit_pipeline_mode
      same(one(db, 'SELECT 1'), ['1'])
    end
  },
  'cursor' => lambda {
    connect do |db|
      db.transaction do
        db.exec('DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 10) n')
        same(db.describe_portal('c').fields, ['n'])
        same(db.exec('FETCH 3 FROM c').values.flatten, %w[1 2 3])
      end
      db.send_query_params('SELECT n FROM generate_series(1, 1000) n', [])
      db.set_single_row_mode
      same(db.get_result.stream_each_row.map { |row| row[0].to_i }, (1..1000).to_a)
      db.get_result
    end
  },
  'copy' => lambda {
    connect do |db|
      lines = Array.new(1000) { |n| "#{3000 + n}\tcopied #{n}\n" }
      db.copy_data("COPY #{TABLE} (id, name) FROM STDIN") { lines.each { |line| db.put_copy_data(line) } }
      found = []
      db.copy_data("COPY (SELECT id, name FROM #{TABLE} WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT") do
        while (line = db.get_copy_data) do found << line end
      end
      same(found, lines)
      fails('22P02') { db.copy_data("COPY #{TABLE} (id) FROM STDIN") { db.put_copy_data("not a number\n") } }
      begin
        db.copy_data("COPY #{TABLE} (id) FROM STDIN") do
          db.put_copy_data("5000\n")
          raise KeyError, 'the client gives up'
        end
      rescue KeyError
        same(one(db, "SELECT count(*) FROM #{TABLE} WHERE id = 5000"), ['0'])
      end
    end
  },
  'cancel' => lambda {
    connect do |db|
      ended = false
      stopping = Thread.new { db.cancel until ended || !sleep(0.2) }
      fails('57014') { db.exec('SELECT pg_sleep(20)') }
      ended = true
      stopping.join
      20.times { same(one(db, 'SELECT 1'), ['1']) }
    end
  },
  'errors' => lambda {
    connect do |db|
      db.exec('BEGIN')
      db.exec("INSERT INTO #{TABLE} (id) VALUES (1)")
      error = fails('23505') { db.exec_params("INSERT INTO #{TABLE} (id) VALUES ($1)", [1]) }
      same(error.result.error_field(PG::PG_DIAG_CONSTRAINT_NAME), "#{TABLE}_pkey")
      same(db.transaction_status, PG::PQTRANS_INERROR)
      fails('25P02') { one(db, 'SELECT 1') }
      db.exec('ROLLBACK')
      same(one(db, "SELECT count(*) FROM #{TABLE} WHERE id = 1"), ['0'])
      db.transaction do
        db.exec("INSERT INTO #{TABLE} (id) VALUES (1)")
        db.exec('SAVEPOINT s')
        fails('22012') { db.exec('SELECT 1 / 0') }
        db.exec('ROLLBACK TO s')
      end
      same(one(db, "SELECT count(*) FROM #{TABLE} WHERE id = 1"), ['1'])
      notices = []
      db.set_notice_processor { |text| notices << text }
      db.exec("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
      same(notices, ["NOTICE:  hello\n"])
    end
  },
  'settings' => lambda {
    several(->(n) { { application_name: "client #{n}", options: "-c statement_timeout=#{n + 1}min" } }) do |dbs|
      dbs.each_with_index { |db, n| db.exec("SET TIME ZONE 'Etc/GMT+#{n}'; SET search_path = s#{n}, public") }
      ROUNDS.times do
        dbs.each_with_index do |db, n|
          row = one(db, "SELECT current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout')")
          same(row, ["client #{n}", "Etc/GMT+#{n}", "s#{n}, public", "#{n + 1}min"])
          same(db.parameter_status('TimeZone'), "Etc/GMT+#{n}")
        end
      end
    end
  },
  'listen' => lambda {
    connect do |listener|
      connect do |sender|
        listener.exec('LISTEN ruby_pg')
        3.times { |n| sender.exec_params("SELECT pg_notify('ruby_pg', $1)", ["message #{n}"]) }
        found = []
        3.times { listener.wait_for_notify(10) { |channel, _pid, payload| found << [channel, payload] } }
        same(found, Array.new(3) { |n| ['ruby_pg', "message #{n}"] })
      end
    end
  },
  'keyed' => lambda {
    connect do |db|
      db.prepare('read', "SELECT name, amount FROM #{TABLE} WHERE id = $1")
      20.times do |n|
        key = 100 + n
        db.exec_params("INSERT INTO #{TABLE} (id, name) VALUES ($1, $2)", [key, "name #{n}"])
        same(db.exec_prepared('read', [key]).values, [["name #{n}", nil]])
        same(db.exec_params("UPDATE #{TABLE} SET amount = $1 WHERE id = $2", [n, key]).cmd_tuples, 1)
        db.transaction { db.exec_params("UPDATE #{TABLE} SET amount = amount + 1 WHERE id = $1", [key]) }
        same(db.exec_prepared('read', [key]).values, [["name #{n}", "#{n + 1}.00"]])
      end
      same(db.exec("DELETE FROM #{TABLE} WHERE id = 100").cmd_tuples, 1)
      same(db.exec_prepared('read', [100]).ntuples, 0)
    end
  }
}.freeze

$stdout.sync = true
puts "version Ruby pg #{PG::VERSION} (libpq #{PG.library_version})"
ENV.fetch('DRIVER_CHECKS').split(',').each do |name|
  CHECKS.fetch(name).call
  puts "ok #{name}"
rescue StandardError => e
  puts "failed #{name}: #{e.class}: #{e.message.gsub(/\s+/, ' ')} #{e.backtrace.grep(/ruby_pg.rb/).first(2).map { |line| line[/\d+/] }}"
end
