import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.util.PGobject;

/** pgjdbc: parameters in text and, for statements it has prepared, in binary. */
public class Jdbc {
    static final Map<String, String> ENV = System.getenv();
    static final String TABLE = ENV.get("DRIVER_TABLE");
    static final int CLIENTS = 8;
    static final int ROUNDS = 5;
    /** No two neighbours are alike, so that a part that is lost or sent twice shows. */
    static final String LONG_TEXT = longText();
    static final byte[] LONG_BYTES = longBytes();

    interface Check {
        void run() throws Exception;
    }

    interface Work {
        void run() throws SQLException;
    }

    static String longText() {
        StringBuilder text = new StringBuilder();
        for (int n = 0; n < (1 << 20) / 8; n++) text.append(String.format("%06dü", n));
        return text.toString();
    }

    static byte[] longBytes() {
        byte[] bytes = new byte[1 << 20];
        for (int n = 0; n < bytes.length; n++) bytes[n] = (byte) (n * 7);
        return bytes;
    }

    static Connection connect(String... more) throws SQLException {
        Properties p = new Properties();
        p.put("user", ENV.get("PGUSER"));
        p.put("password", ENV.get("PGPASSWORD"));
        p.put("sslmode", "verify-full");
        p.put("sslrootcert", ENV.get("PGSSLROOTCERT"));
        for (int n = 0; n < more.length; n += 2) p.put(more[n], more[n + 1]);
        String url = "jdbc:postgresql://" + ENV.get("PGHOST") + ":" + ENV.get("PGPORT") + "/" + ENV.get("PGDATABASE");
        return DriverManager.getConnection(url, p);
    }

    static void same(Object found, Object expected) {
        if (!Objects.deepEquals(found, expected)) throw new AssertionError("expected " + brief(expected) + ", found " + brief(found));
    }

    static String brief(Object value) {
        String text = value instanceof Object[] a ? Arrays.deepToString(a) : String.valueOf(value);
        return text.length() < 200 ? text : text.substring(0, 200) + "…";
    }

    static SQLException fails(String sqlstate, Work work) {
        try {
            work.run();
        } catch (SQLException error) {
            same(error.getSQLState(), sqlstate);
            return error;
        }
        throw new AssertionError("no error, expected " + sqlstate);
    }

    static int execute(Connection db, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) statement.setObject(n + 1, values[n]);
            return statement.execute() ? 0 : statement.getUpdateCount();
        }
    }

    static Object one(Connection db, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) statement.setObject(n + 1, values[n]);
            try (ResultSet rows = statement.executeQuery()) {
                return rows.next() ? rows.getObject(1) : null;
            }
        }
    }

    static void simple(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement()) {
            statement.execute(sql);
        }
    }

    static void tls() throws Exception {
        try (Connection db = connect()) {
            same(one(db, "SELECT 1"), 1);
        }
        fails("08006", () -> connect("sslrootcert", ENV.get("DRIVER_STRANGER")));
    }

    static void scram() throws Exception {
        fails("28P01", () -> connect("password", "wrong"));
    }

    /** The first five executions are in text, later ones of a prepared statement in binary. */
    static void value(String kind, Object value, String text) throws SQLException {
        for (String mode : new String[] {"extended", "simple"}) {
            // pgjdbc 42.5 writes bytes into the text of a simple query in a way that has no CAST.
            if (value instanceof byte[] && mode.equals("simple")) continue;
            try (Connection db = connect("preferQueryMode", mode);
                    PreparedStatement statement = db.prepareStatement("SELECT CAST(? AS " + kind + "), CAST(CAST(? AS " + kind + ") AS text)")) {
                for (int turn = 0; turn < 8; turn++) {
                    for (int at = 1; at <= 2; at++) {
                        if (value instanceof Object[] array) statement.setArray(at, db.createArrayOf(kind.replace("[]", ""), array));
                        else if (value instanceof byte[] bytes) statement.setBytes(at, bytes);
                        else if (value == null) statement.setNull(at, kind.equals("bytea") ? Types.BINARY : Types.NULL);
                        else statement.setObject(at, value);
                    }
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        Object found = value == null || value instanceof byte[] ? rows.getObject(1)
                            : value instanceof Object[] ? rows.getArray(1).getArray()
                            : rows.getObject(1, value.getClass());
                        same(found, value);
                        if (text != null) same(rows.getString(2), text);
                    }
                }
            }
        }
    }

    static void numbers() throws Exception {
        value("int2", (short) -32768, "-32768");
        value("int4", Integer.MAX_VALUE, "2147483647");
        value("int8", Long.MIN_VALUE, "-9223372036854775808");
        value("float8", 0.1, "0.1");
        value("numeric", new BigDecimal("12345678901234567890.123456789"), "12345678901234567890.123456789");
        value("bool", true, "true");
        value("uuid", UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    }

    static void text() throws Exception {
        String odd = "Zażółć 日本語 🐘 'single' \"double\" \\back\\ %s $1 :a ?\n\ttab";
        value("text", odd, odd);
        value("text", "", "");
    }

    static void bytea() throws Exception {
        byte[] all = new byte[256];
        StringBuilder hex = new StringBuilder("\\x");
        for (int n = 0; n < 256; n++) {
            all[n] = (byte) n;
            hex.append(String.format("%02x", n));
        }
        value("bytea", all, hex.toString());
        value("bytea", new byte[0], "\\x");
    }

    static void nulls() throws Exception {
        for (String kind : new String[] {"int4", "text", "bytea", "timestamptz"}) value(kind, null, null);
    }

    static void arrays() throws Exception {
        value("int8[]", new Long[] {1L, null, -3L}, "{1,NULL,-3}");
        value("text[]", new String[] {"a", "b c", "q\"uo\\te", "", null, "NULL", "ü,{}"}, "{a,\"b c\",\"q\\\"uo\\\\te\",\"\",NULL,\"NULL\",\"ü,{}\"}");
        value("int4[]", new Integer[][] {{1, 2}, {3, 4}}, "{{1,2},{3,4}}");
        value("text[]", new String[0], "{}");
    }

    static void json() throws Exception {
        try (Connection db = connect()) {
            PGobject document = new PGobject();
            document.setType("jsonb");
            document.setValue("{\"a\": [1, 2.5, {\"b\": null}], \"ü\": \"☃\"}");
            for (int turn = 0; turn < 8; turn++) {
                same(((PGobject) one(db, "SELECT ?::jsonb", document)).getValue(), document.getValue());
                same(one(db, "SELECT ?::jsonb->'a'->>0", document), "1");
            }
        }
    }

    static void times() throws Exception {
        value("date", LocalDate.of(2024, 2, 29), "2024-02-29");
        value("time", LocalTime.of(23, 59, 59, 123456000), "23:59:59.123456");
        value("timestamp", LocalDateTime.of(2024, 2, 29, 23, 59, 59, 123456000), "2024-02-29 23:59:59.123456");
        // pgjdbc sends the time zone of its JVM as a startup parameter; the server's text is in it.
        value("timestamptz", OffsetDateTime.of(2024, 2, 29, 23, 59, 59, 123456000, ZoneOffset.UTC), "2024-03-01 05:29:59.123456+05:30");
    }

    static void large() throws Exception {
        try (Connection db = connect(); PreparedStatement statement = db.prepareStatement("SELECT ?::text, ?::bytea")) {
            for (int turn = 0; turn < 7; turn++) {
                statement.setString(1, LONG_TEXT);
                statement.setBytes(2, LONG_BYTES);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(rows.getString(1), LONG_TEXT);
                    same(rows.getBytes(2), LONG_BYTES);
                }
            }
            try (ResultSet rows = db.createStatement().executeQuery("SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")) {
                long sum = 0;
                while (rows.next()) sum += rows.getInt(1);
                same(sum, 200010000L);
            }
        }
    }

    /** pgjdbc names its statements S_1, S_2, …: the same names on every connection. */
    static void prepared() throws Exception {
        Connection[] dbs = new Connection[CLIENTS];
        PreparedStatement[] own = new PreparedStatement[CLIENTS];
        try {
            for (int n = 0; n < CLIENTS; n++) {
                dbs[n] = connect("prepareThreshold", "1", "preparedStatementCacheQueries", "3");
                own[n] = dbs[n].prepareStatement("SELECT 'client " + n + ": ' || (?::int + " + n + ")");
            }
            for (int turn = 0; turn < ROUNDS; turn++) {
                for (int n = 0; n < CLIENTS; n++) {
                    Connection db = dbs[n];
                    String division = "SELECT " + n + " / ?::int";
                    own[n].setInt(1, turn);
                    try (ResultSet rows = own[n].executeQuery()) {
                        rows.next();
                        same(rows.getString(1), "client " + n + ": " + (turn + n));
                    }
                    same(((PGStatement) own[n]).isUseServerPrepare(), true);
                    fails("22012", () -> one(db, division, 0));
                    same(one(db, division, 1), n);
                    // More texts than the cache has places for: the oldest is closed.
                    for (int text = 0; text < 5; text++) same(one(db, "SELECT ?::int + " + text, n), n + text);
                }
            }
            // Elsewhere the next server need not be one that has prepared the statement.
            if (!ENV.get("DRIVER_TARGET").matches("postgres|pooled")) return;
            // A table that changes under a prepared SELECT *: pgjdbc prepares again outside of a transaction.
            simple(dbs[0], "CREATE TABLE " + TABLE + "_changing (a int)");
            try (PreparedStatement all = dbs[1].prepareStatement("SELECT * FROM " + TABLE + "_changing")) {
                for (int turn = 0; turn < 3; turn++) all.executeQuery().close();
                simple(dbs[0], "ALTER TABLE " + TABLE + "_changing ADD b int");
                try (ResultSet rows = all.executeQuery()) {
                    same(rows.getMetaData().getColumnCount(), 2);
                }
            } finally {
                simple(dbs[0], "DROP TABLE " + TABLE + "_changing");
            }
        } finally {
            for (Connection db : dbs) if (db != null) db.close();
        }
    }

    static void clients() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
        List<Future<?>> all = new ArrayList<>();
        for (int at = 0; at < CLIENTS; at++) {
            int n = at;
            all.add(threads.submit(() -> {
                try (Connection db = connect("prepareThreshold", "2")) {
                    for (int turn = 0; turn < ROUNDS; turn++) {
                        long key = 1000 + n * ROUNDS + turn;
                        db.setAutoCommit(false);
                        execute(db, "INSERT INTO " + TABLE + " (id, name) VALUES (?, ?)", key, "client " + n);
                        same(one(db, "SELECT name FROM " + TABLE + " WHERE id = ?", key), "client " + n);
                        db.commit();
                        db.setAutoCommit(true);
                        same(one(db, "SELECT count(*) FROM " + TABLE + " WHERE name = ?", "client " + n), turn + 1L);
                    }
                    return null;
                }
            }));
        }
        try {
            for (Future<?> each : all) each.get();
        } finally {
            threads.shutdownNow();
        }
    }

    /** A batch goes out as one pipeline. */
    static void pipeline() throws Exception {
        for (String rewrite : new String[] {"false", "true"}) {
            try (Connection db = connect("reWriteBatchedInserts", rewrite)) {
                int from = rewrite.equals("true") ? 2500 : 2000;
                try (PreparedStatement batch = db.prepareStatement("INSERT INTO " + TABLE + " (id, name) VALUES (?, ?)")) {
                    for (int n = 0; n < 300; n++) {
                        batch.setLong(1, from + n);
                        batch.setString(2, "p" + n);
                        batch.addBatch();
                    }
                    same(batch.executeBatch().length, 300);
                }
                same(one(db, "SELECT count(*) FROM " + TABLE + " WHERE id BETWEEN ? AND ?", (long) from, from + 299L), 300L);
                try (PreparedStatement batch = db.prepareStatement("INSERT INTO " + TABLE + " (id) VALUES (?)")) {
                    for (long id : new long[] {from + 400, from, from + 401}) {
                        batch.setLong(1, id);
                        batch.addBatch();
                    }
                    db.setAutoCommit(false);
                    fails("23505", batch::executeBatch);
                    db.rollback();
                    db.setAutoCommit(true);
                }
                try (Statement batch = db.createStatement()) {
                    for (int n = 0; n < 50; n++) batch.addBatch("UPDATE " + TABLE + " SET name = 'q" + n + "' WHERE id = " + (from + n));
                    same(batch.executeBatch().length, 50);
                }
                same(one(db, "SELECT name FROM " + TABLE + " WHERE id = ?", from + 49L), "q49");
            }
        }
    }

    /** With a fetch size, in a transaction, rows come in portions from a portal. */
    static void cursor() throws Exception {
        try (Connection db = connect("prepareThreshold", "1")) {
            db.setAutoCommit(false);
            for (int turn = 0; turn < 2; turn++) {
                try (PreparedStatement statement = db.prepareStatement("SELECT n FROM generate_series(?::int, 1000) n")) {
                    statement.setInt(1, 1);
                    statement.setFetchSize(100);
                    try (ResultSet rows = statement.executeQuery()) {
                        for (int n = 1; n <= 1000; n++) {
                            rows.next();
                            same(rows.getInt(1), n);
                            // Another statement between two portions.
                            if (n == 150) same(one(db, "SELECT 'between'"), "between");
                        }
                        same(rows.next(), false);
                    }
                }
                db.commit();
            }
            // A cursor that a function returns.
            try (PreparedStatement statement = db.prepareStatement("SELECT n FROM generate_series(1, 1000) n", ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY)) {
                statement.setFetchSize(2);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                }
            }
            db.rollback();
            same(one(db, "SELECT 1"), 1);
            db.rollback();
        }
    }

    static void copy() throws Exception {
        try (Connection db = connect()) {
            var copier = db.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int n = 0; n < 1000; n++) lines.append(3000 + n).append("\tcopied ").append(n).append('\n');
            same(copier.copyIn("COPY " + TABLE + " (id, name) FROM STDIN", new StringReader(lines.toString())), 1000L);
            StringWriter out = new StringWriter();
            copier.copyOut("COPY (SELECT id, name FROM " + TABLE + " WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT", out);
            same(out.toString(), lines.toString());
            fails("22P02", () -> {
                try {
                    copier.copyIn("COPY " + TABLE + " (id) FROM STDIN", new StringReader("not a number\n"));
                } catch (java.io.IOException error) {
                    throw new AssertionError(error);
                }
            });
            var left = copier.copyIn("COPY " + TABLE + " (id) FROM STDIN");
            left.writeToCopy("5000\n".getBytes(), 0, 5);
            left.cancelCopy();
            same(one(db, "SELECT count(*) FROM " + TABLE + " WHERE id = 5000"), 0L);
        }
    }

    static void cancel() throws Exception {
        try (Connection db = connect(); Statement statement = db.createStatement()) {
            AtomicBoolean ended = new AtomicBoolean();
            Thread other = new Thread(() -> {
                try {
                    for (Thread.sleep(200); !ended.get(); Thread.sleep(200)) statement.cancel();
                } catch (Exception error) {
                    throw new RuntimeException(error);
                }
            });
            other.start();
            fails("57014", () -> statement.execute("SELECT pg_sleep(20)"));
            ended.set(true);
            other.join();
            for (int n = 0; n < 20; n++) same(one(db, "SELECT 1"), 1);
            // A timeout of the driver's own is a cancel too.
            statement.setQueryTimeout(1);
            fails("57014", () -> statement.execute("SELECT pg_sleep(20)"));
            same(one(db, "SELECT 1"), 1);
        }
    }

    static void errors() throws Exception {
        try (Connection db = connect()) {
            db.setAutoCommit(false);
            execute(db, "INSERT INTO " + TABLE + " (id, name) VALUES (1, 'one')");
            var error = (org.postgresql.util.PSQLException) fails("23505", () -> execute(db, "INSERT INTO " + TABLE + " (id) VALUES (?)", 1L));
            same(error.getServerErrorMessage().getConstraint(), TABLE + "_pkey");
            same(error.getServerErrorMessage().getDetail(), "Key (id)=(1) already exists.");
            fails("25P02", () -> one(db, "SELECT 1"));
            db.rollback();
            same(one(db, "SELECT count(*) FROM " + TABLE + " WHERE id = 1"), 0L);
            execute(db, "INSERT INTO " + TABLE + " (id, name) VALUES (1, 'outer')");
            Savepoint before = db.setSavepoint("Before it");
            fails("22012", () -> one(db, "SELECT 1 / 0"));
            db.rollback(before);
            db.commit();
            same(one(db, "SELECT count(*) FROM " + TABLE + " WHERE id < 10"), 1L);
            db.commit();
        }
        // A savepoint of the driver's own around every statement.
        try (Connection db = connect("autosave", "always")) {
            db.setAutoCommit(false);
            fails("22012", () -> one(db, "SELECT 1 / 0"));
            same(one(db, "SELECT 1"), 1);
            db.commit();
            simple(db, "DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
            db.commit();
        }
        try (Connection db = connect(); Statement statement = db.createStatement()) {
            statement.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
            same(statement.getWarnings().getMessage(), "hello");
        }
    }

    static void settings() throws Exception {
        Connection[] dbs = new Connection[CLIENTS];
        try {
            for (int n = 0; n < CLIENTS; n++) {
                dbs[n] = connect("ApplicationName", "client " + n, "options", "-c statement_timeout=" + (n + 1) + "min");
                simple(dbs[n], "SET TIME ZONE 'Etc/GMT+" + n + "'");
                dbs[n].setSchema("s" + n);
                if (n % 2 == 1) dbs[n].setReadOnly(true);
                if (n % 4 == 1) dbs[n].setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            }
            for (int turn = 0; turn < ROUNDS; turn++) {
                for (int n = 0; n < CLIENTS; n++) {
                    Object found = one(dbs[n], "SELECT concat_ws(' / ', current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout'), current_setting('default_transaction_isolation'))");
                    String isolation = n % 4 == 1 ? "serializable" : "read committed";
                    same(found, "client " + n + " / Etc/GMT+" + n + " / s" + n + " / " + (n + 1) + "min / " + isolation);
                }
            }
            fails("25006", () -> {
                dbs[1].setAutoCommit(false);
                execute(dbs[1], "INSERT INTO public." + TABLE + " (id) VALUES (9)");
            });
            dbs[1].rollback();
            dbs[0].setClientInfo("ApplicationName", "renamed");
            same(one(dbs[0], "SHOW application_name"), "renamed");
        } finally {
            for (Connection db : dbs) if (db != null) db.close();
        }
    }

    static void listen() throws Exception {
        try (Connection listener = connect(); Connection sender = connect()) {
            simple(listener, "LISTEN pgjdbc");
            for (int n = 0; n < 3; n++) one(sender, "SELECT pg_notify('pgjdbc', ?)", "message " + n);
            List<String> found = new ArrayList<>();
            for (long end = System.nanoTime() + 10_000_000_000L; found.size() < 3 && System.nanoTime() < end; ) {
                PGNotification[] some = listener.unwrap(PGConnection.class).getNotifications(1000);
                if (some != null) for (PGNotification each : some) found.add(each.getName() + " " + each.getParameter());
            }
            same(found, List.of("pgjdbc message 0", "pgjdbc message 1", "pgjdbc message 2"));
        }
    }

    static void keyed() throws Exception {
        try (Connection db = connect("prepareThreshold", "3")) {
            for (long n = 0; n < 20; n++) {
                long key = 100 + n;
                same(execute(db, "INSERT INTO " + TABLE + " (id, name) VALUES (?, ?)", key, "name " + n), 1);
                same(one(db, "SELECT name FROM " + TABLE + " WHERE id = ?", key), "name " + n);
                same(execute(db, "UPDATE " + TABLE + " SET amount = ? WHERE id = ?", n, key), 1);
                db.setAutoCommit(false);
                execute(db, "UPDATE " + TABLE + " SET amount = amount + 1 WHERE id = ?", key);
                same(one(db, "SELECT amount::bigint FROM " + TABLE + " WHERE id = ?", key), n + 1);
                db.commit();
                db.setAutoCommit(true);
                same(one(db, "SELECT amount::bigint FROM " + TABLE + " WHERE id = ?", key), n + 1);
            }
            same(execute(db, "DELETE FROM " + TABLE + " WHERE id = ?", 100L), 1);
            same(one(db, "SELECT name FROM " + TABLE + " WHERE id = ?", 100L), null);
        }
    }

    public static void main(String[] arguments) {
        TimeZone.setDefault(TimeZone.getTimeZone("Asia/Kolkata"));
        System.out.println("version pgjdbc " + org.postgresql.Driver.class.getPackage().getImplementationVersion());
        Map<String, Check> checks = new HashMap<>();
        checks.put("tls", Jdbc::tls);
        checks.put("scram", Jdbc::scram);
        checks.put("numbers", Jdbc::numbers);
        checks.put("text", Jdbc::text);
        checks.put("bytea", Jdbc::bytea);
        checks.put("nulls", Jdbc::nulls);
        checks.put("arrays", Jdbc::arrays);
        checks.put("json", Jdbc::json);
        checks.put("times", Jdbc::times);
        checks.put("large", Jdbc::large);
        checks.put("prepared", Jdbc::prepared);
        checks.put("clients", Jdbc::clients);
        checks.put("pipeline", Jdbc::pipeline);
        checks.put("cursor", Jdbc::cursor);
        checks.put("copy", Jdbc::copy);
        checks.put("cancel", Jdbc::cancel);
        checks.put("errors", Jdbc::errors);
        checks.put("settings", Jdbc::settings);
        checks.put("listen", Jdbc::listen);
        checks.put("keyed", Jdbc::keyed);
        for (String name : ENV.get("DRIVER_CHECKS").split(",")) {
            try {
                Check check = checks.get(name);
                if (check == null) {
                    System.out.println("absent " + name + ": not in this driver");
                    continue;
                }
                check.run();
                System.out.println("ok " + name);
            } catch (Throwable error) {
                System.out.println("failed " + name + ": " + String.valueOf(error).replaceAll("\\s+", " "));
                if (ENV.containsKey("DRIVER_TRACE")) error.printStackTrace();
            }
        }
        System.exit(0);
    }
}
