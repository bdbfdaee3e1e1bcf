<?php
// PHP's PDO, over the system's libpq. Each prepare() is a statement on the server unless it emulates.

const CLIENTS = 8;
const ROUNDS = 5;
const ODD = "Zażółć 日本語 🐘 'single' \"double\" \\back\\ %s \$1 :a\n\ttab";
define('TABLE', getenv('DRIVER_TABLE'));
// No two neighbours are alike, so that a part that is lost or sent twice shows.
define('LONG_TEXT', implode('', array_map(fn ($n) => sprintf('%06dü', $n), range(0, (1 << 20) / 8 - 1))));
define('LONG_BYTES', implode('', array_map(fn ($n) => chr($n * 7 % 256), range(0, (1 << 20) - 1))));

function same($found, $expected): void
{
    if ($found !== $expected) {
        [$found, $expected] = array_map(fn ($value) => substr(json_encode($value, JSON_UNESCAPED_UNICODE | JSON_PARTIAL_OUTPUT_ON_ERROR), 0, 200), [$found, $expected]);
        throw new Exception("expected $expected, found $found");
    }
}

function connect(string $more = '', ?string $password = null, array $options = []): PDO
{
    // libpq's variables say the rest.
    $dsn = "pgsql:host={$_SERVER['PGHOST']};port={$_SERVER['PGPORT']}" . ($more ? ";$more" : '');
    return new PDO($dsn, null, $password, $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function rows(PDO $db, string $sql, array $values = []): array
{
    $statement = $db->prepare($sql);
    $statement->execute($values);
    return $statement->fetchAll(PDO::FETCH_NUM);
}

function fails(string $sqlstate, callable $work): PDOException
{
    try {
        $work();
    } catch (PDOException $error) {
        same($error->errorInfo[0], $sqlstate);
        return $error;
    }
    throw new Exception("no error, expected $sqlstate");
}

function refused(string $part, callable $work): void
{
    try {
        $work();
    } catch (PDOException $error) {
        same(str_contains($error->getMessage(), $part), true);
        return;
    }
    throw new Exception("no error, expected $part");
}

function value(string $kind, ?string $text): void
{
    foreach ([false, true] as $emulate) {
        $db = connect(options: [PDO::ATTR_EMULATE_PREPARES => $emulate]);
        $statement = $db->prepare("SELECT CAST(CAST(? AS $kind) AS text)");
        for ($turn = 0; $turn < 3; $turn++) {
            $statement->execute([$text]);
            same($statement->fetchAll(PDO::FETCH_NUM), [[$text]]);
        }
    }
}

$checks = [
    'tls' => function () {
        same(rows(connect(), 'SELECT 1'), [[1]]);
        refused('certificate verify failed', fn () => connect('sslrootcert=' . getenv('DRIVER_STRANGER')));
    },
    'scram' => fn () => refused('password authentication failed', fn () => connect('', 'wrong')),
    'numbers' => function () {
        value('int8', '-9223372036854775808');
        value('numeric', '12345678901234567890.123456789');
        value('uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
        same(rows(connect(), 'SELECT 9223372036854775807, 0.1::float8, true'), [[PHP_INT_MAX, '0.1', true]]);
    },
    'text' => function () {
        value('text', ODD);
        value('text', '');
    },
    'bytea' => function () {
        $all = implode('', array_map('chr', range(0, 255)));
        $statement = connect()->prepare('SELECT CAST(? AS bytea)');
        $statement->bindValue(1, $all, PDO::PARAM_LOB);
        $statement->execute();
        same(stream_get_contents($statement->fetchColumn()), $all);
    },
    'nulls' => fn () => array_map(fn ($kind) => value($kind, null), ['int4', 'text', 'bytea', 'timestamptz']),
    'arrays' => fn () => array_map(fn ($text) => value('text[]', $text), ['{1,NULL,-3}', '{a,"b c","",NULL,"NULL","ü,{}"}', '{{1,2},{3,4}}']),
    'json' => fn () => value('jsonb', '{"a": [1, 2.5, {"b": null}], "ü": "☃"}'),
    'times' => function () {
        value('timestamptz', '2024-02-29 23:59:59.123456+00');
        value('timestamp', '2024-02-29 23:59:59.123456');
        value('date', '2024-02-29');
    },
    'large' => function () {
        $statement = connect()->prepare('SELECT CAST(? AS text), CAST(? AS bytea)');
        for ($turn = 0; $turn < 3; $turn++) {
            $statement->bindValue(1, LONG_TEXT);
            $statement->bindValue(2, LONG_BYTES, PDO::PARAM_LOB);
            $statement->execute();
            $row = $statement->fetch(PDO::FETCH_NUM);
            same([$row[0] === LONG_TEXT, stream_get_contents($row[1]) === LONG_BYTES], [true, true]);
            $statement->closeCursor();
        }
    },
    'prepared' => function () {
        // PDO names its statements pdo_stmt_00000001, …: the same names on every connection.
        $dbs = array_map(fn () => connect(), range(1, CLIENTS));
        $own = array_map(fn ($n) => $dbs[$n]->prepare("SELECT 'client $n', CAST(? AS int) + $n"), array_keys($dbs));
        $division = array_map(fn ($n) => $dbs[$n]->prepare("SELECT $n / CAST(? AS int)"), array_keys($dbs));
        for ($turn = 0; $turn < ROUNDS; $turn++) {
            foreach ($dbs as $n => $db) {
                $own[$n]->execute([$turn]);
                same($own[$n]->fetchAll(PDO::FETCH_NUM), [["client $n", $turn + $n]]);
                fails('22012', fn () => $division[$n]->execute([0]));
                $division[$n]->execute([1]);
                same($division[$n]->fetchAll(PDO::FETCH_NUM), [[$n]]);
                // Dropped at once: PDO sends DEALLOCATE.
                same(rows($db, "SELECT $n + $turn"), [[$n + $turn]]);
            }
        }
    },
    'clients' => function () {
        // One thread: eight clients whose transactions follow each other.
        $dbs = array_map(fn () => connect(), range(1, CLIENTS));
        for ($turn = 0; $turn < ROUNDS; $turn++) {
            foreach ($dbs as $n => $db) {
                $db->beginTransaction();
                rows($db, 'INSERT INTO ' . TABLE . ' (id, name) VALUES (?, ?)', [1000 + $n * ROUNDS + $turn, "client $n"]);
                same(rows($db, 'SELECT count(*) FROM ' . TABLE . ' WHERE name = ?', ["client $n"]), [[$turn + 1]]);
                $db->commit();
            }
        }
    },
    'cursor' => function () {
        $db = connect();
        $db->beginTransaction();
        $statement = $db->prepare('SELECT n FROM generate_series(1, 10) n', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        $statement->execute();
        for ($n = 1; $n <= 10; $n++) {
            same($statement->fetchColumn(), $n);
        }
        $statement->closeCursor();
        $db->commit();
    },
    'copy' => function () {
        $db = connect();
        $lines = array_map(fn ($n) => (3000 + $n) . "\tcopied $n\n", range(0, 999));
        $db->pgsqlCopyFromArray(TABLE, $lines, "\t", '\\\\N', 'id, name');
        same(rows($db, 'SELECT count(*) FROM ' . TABLE . ' WHERE id BETWEEN 3000 AND 3999'), [[1000]]);
        $found = $db->pgsqlCopyToArray('(SELECT id, name FROM ' . TABLE . ' WHERE id BETWEEN 3000 AND 3999 ORDER BY id)');
        same($found, $lines);
        fails('22P02', fn () => $db->pgsqlCopyFromArray(TABLE, ["not a number\n"], "\t", '\\\\N', 'id'));
        same(rows($db, 'SELECT 1'), [[1]]);
    },
    'errors' => function () {
        $db = connect();
        $insert = 'INSERT INTO ' . TABLE . ' (id) VALUES (?)';
        $db->beginTransaction();
        rows($db, $insert, [1]);
        $error = fails('23505', fn () => rows($db, $insert, [1]));
        same(str_contains($error->getMessage(), TABLE . '_pkey'), true);
        fails('25P02', fn () => rows($db, 'SELECT 1'));
        same($db->inTransaction(), true);
        $db->rollBack();
        $db->beginTransaction();
        rows($db, $insert, [1]);
        $db->exec('SAVEPOINT s');
        fails('22012', fn () => rows($db, 'SELECT 1 / 0'));
        $db->exec('ROLLBACK TO s');
        $db->commit();
        same(rows($db, 'SELECT count(*) FROM ' . TABLE . ' WHERE id < 10'), [[1]]);
    },
    'settings' => function () {
        $dbs = array_map(fn ($n) => connect("application_name='client $n';options='-c statement_timeout=" . ($n + 1) . "min'"), range(0, CLIENTS - 1));
        foreach ($dbs as $n => $db) {
            $db->exec("SET TIME ZONE 'Etc/GMT+$n'; SET search_path = s$n, public");
        }
        for ($turn = 0; $turn < ROUNDS; $turn++) {
            foreach ($dbs as $n => $db) {
                $row = rows($db, "SELECT current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout')");
                same($row, [["client $n", "Etc/GMT+$n", "s$n, public", ($n + 1) . 'min']]);
            }
        }
    },
    'listen' => function () {
        [$listener, $sender] = [connect(), connect()];
        $listener->exec('LISTEN php');
        for ($n = 0; $n < 3; $n++) {
            rows($sender, "SELECT pg_notify('php', ?)", ["message $n"]);
        }
        for ($n = 0; $n < 3; $n++) {
            $message = $listener->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000);
            same([$message['message'], $message['payload']], ['php', "message $n"]);
        }
    },
    'keyed' => function () {
        $db = connect();
        $read = $db->prepare('SELECT name, amount FROM ' . TABLE . ' WHERE id = ?');
        $write = $db->prepare('UPDATE ' . TABLE . ' SET amount = ? WHERE id = ?');
        for ($n = 0; $n < 20; $n++) {
            rows($db, 'INSERT INTO ' . TABLE . ' (id, name) VALUES (?, ?)', [100 + $n, "name $n"]);
            $read->execute([100 + $n]);
            same($read->fetchAll(PDO::FETCH_NUM), [["name $n", null]]);
            $write->execute([$n, 100 + $n]);
            same($write->rowCount(), 1);
            $read->execute([100 + $n]);
            same($read->fetchAll(PDO::FETCH_NUM), [["name $n", "$n.00"]]);
        }
        same($db->exec('DELETE FROM ' . TABLE . ' WHERE id = 100'), 1);
    },
];
$absent = [
    'pipeline' => 'PDO sends a query when the one before it was answered',
    'cancel' => 'PDO has no cancel',
];

echo 'version PHP ' . PHP_VERSION . " PDO\n";
foreach (explode(',', getenv('DRIVER_CHECKS')) as $name) {
    try {
        if (!isset($checks[$name])) {
            echo "absent $name: {$absent[$name]}\n";
            continue;
        }
        $checks[$name]();
        echo "ok $name\n";
    } catch (Throwable $error) {
        echo "failed $name: " . get_class($error) . ' line ' . $error->getLine() . ': ' . preg_replace('/\s+/', ' ', $error->getMessage()) . "\n";
    }
}
