//! What a client may do: each scene has one right outcome, which it checks.

use rand::Rng;

use super::client::{Client, Crowded, Step};
use crate::support::wire::{Wire, bind, digest, execute, frame, parse, unnamed};

type Scene = (fn(&mut Client) -> Step, On);

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Any,
    /// What a database with shards refuses, or gives another meaning.
    Unsharded,
}

const SCENES: [Scene; 37] = [
    (Client::settings_are_its_own, On::Any),
    (Client::sets, On::Any),
    (Client::sets, On::Any),
    (Client::sets_in_a_transaction, On::Any),
    (Client::sets_locally, On::Any),
    (Client::resets, On::Any),
    (Client::sets_config, On::Unsharded),
    (Client::changes_role, On::Any),
    (Client::prepares, On::Any),
    (Client::prepares, On::Any),
    (Client::runs_prepared, On::Any),
    (Client::runs_prepared, On::Any),
    (Client::keeps_an_unnamed_statement, On::Any),
    (Client::prepares_in_sql, On::Unsharded),
    (Client::uses_a_temporary_table, On::Unsharded),
    (Client::uses_a_cursor, On::Unsharded),
    (Client::holds_a_cursor, On::Unsharded),
    (Client::suspends_a_portal, On::Any),
    (Client::locks, On::Unsharded),
    (Client::errs, On::Any),
    (Client::fails_a_transaction, On::Any),
    (Client::is_noticed, On::Unsharded),
    (Client::runs_out_of_time, On::Any),
    (Client::cancels, On::Any),
    (Client::copies, On::Unsharded),
    (Client::listens, On::Unsharded),
    (Client::returns_to_a_savepoint, On::Any),
    (Client::errs_amid_a_pipeline, On::Any),
    (Client::reads_much, On::Any),
    (Client::writes_rows, On::Any),
    (Client::discards_all, On::Any),
    (Client::ends_a_block_within_a_text, On::Unsharded),
    (Client::chains, On::Unsharded),
    (Client::creates_under_a_path_of_its_own, On::Unsharded),
    (Client::prepares_in_another_time_zone, On::Unsharded),
    (Client::alters_what_it_has_prepared, On::Unsharded),
    (Client::speaks_latin1, On::Unsharded),
];

/// All settings in one value.
const SETTINGS: &str = "SELECT concat_ws('|', current_setting('application_name'), \
    coalesce(current_setting('leak.token', true), ''), current_setting('work_mem'), \
    current_setting('TimeZone'), current_user)";
const NAMES: [&str; 5] = [
    "application_name",
    "leak.token",
    "work_mem",
    "TimeZone",
    "role",
];

impl Client {
    pub fn play_scene(&mut self) -> Step {
        loop {
            let (scene, on) = SCENES[self.rng.random_range(0..SCENES.len())];
            if on == On::Any || !self.place.sharded {
                scene(self)?;
                break;
            }
        }
        match self.rng.random_ratio(1, 3) {
            true => self.settings_are_its_own(),
            false => Ok(()),
        }
    }

    pub fn settings_are_its_own(&mut self) -> Step {
        let values = NAMES.map(|name| self.settings[name].clone());
        self.expect(SETTINGS, &format!("{} SELECT 1 I", values.join("|")))
    }

    /// A setting and a value for it.
    fn choose_setting(&mut self) -> (&'static str, String) {
        let name = self.one_of(&NAMES[..4]);
        let value = match name {
            "work_mem" => format!("{}MB", self.rng.random_range(5..100)),
            "TimeZone" => self.one_of(&["Asia/Tokyo", "Europe/Paris"]).to_owned(),
            "leak.token" => format!("{} é", self.text()),
            _ => self.text(),
        };
        (name, value)
    }

    fn sets(&mut self) -> Step {
        let (name, value) = self.choose_setting();
        self.expect(&format!("SET {name} = '{value}'"), "SET I")?;
        self.settings.insert(name, value);
        Ok(())
    }

    fn sets_in_a_transaction(&mut self) -> Step {
        self.expect("BEGIN", "BEGIN T")?;
        let (name, value) = self.choose_setting();
        self.expect(&format!("SET {name} = '{value}'"), "SET T")?;
        let show = format!("SELECT current_setting('{name}')");
        self.expect(&show, &format!("{value} SELECT 1 T"))?;
        match self.rng.random() {
            true => {
                self.expect("COMMIT", "COMMIT I")?;
                self.settings.insert(name, value);
            }
            false => self.expect("ROLLBACK", "ROLLBACK I")?,
        }
        Ok(())
    }

    fn sets_locally(&mut self) -> Step {
        self.expect("BEGIN", "BEGIN T")?;
        let (name, value) = self.choose_setting();
        self.expect(&format!("SET LOCAL {name} = '{value}'"), "SET T")?;
        let show = format!("SELECT current_setting('{name}')");
        self.expect(&show, &format!("{value} SELECT 1 T"))?;
        let (end, tag) = self.one_of(&[("COMMIT", "COMMIT I"), ("ROLLBACK", "ROLLBACK I")]);
        self.expect(end, tag)
    }

    fn resets(&mut self) -> Step {
        let role = self.settings["role"].clone();
        match self.one_of(&[
            "ALL",
            "application_name",
            "leak.token",
            "work_mem",
            "TimeZone",
        ]) {
            "ALL" => {
                self.expect("RESET ALL", "RESET I")?;
                self.settings = self.base.clone();
                // RESET ALL leaves the role.
                self.settings.insert("role", role);
            }
            name => {
                self.expect(&format!("RESET {name}"), "RESET I")?;
                self.settings.insert(name, self.base[name].clone());
            }
        }
        Ok(())
    }

    fn sets_config(&mut self) -> Step {
        let (name, value) = self.choose_setting();
        let sql = format!("SELECT set_config('{name}', '{value}', false)");
        self.expect(&sql, &format!("{value} SELECT 1 I"))?;
        self.settings.insert(name, value);
        Ok(())
    }

    fn changes_role(&mut self) -> Step {
        match self.settings["role"] == "leak_role" {
            true => self.expect("RESET ROLE", "RESET I")?,
            false => self.expect("SET ROLE leak_role", "SET I")?,
        }
        let role = match self.settings["role"] == "leak_role" {
            true => self.base["role"].clone(),
            false => "leak_role".to_owned(),
        };
        self.settings.insert("role", role);
        Ok(())
    }

    /// What one role makes another may not use.
    fn is_itself(&mut self) -> Step {
        match self.settings["role"] == "leak_role" {
            true => self.changes_role(),
            false => Ok(()),
        }
    }

    /// Under a name that everybody uses, a text of its own or one that everybody has.
    fn prepares(&mut self) -> Step {
        let name = self.one_of(&["s1", "s2", "s3"]).to_owned();
        let mut messages = Vec::new();
        let mut expected = String::new();
        if self.named.remove(&name).is_some() {
            messages.push(frame(b'C', format!("S{name}\0").as_bytes()));
            expected.push_str("closed ");
        }
        let value = self.text();
        let (sql, answer) = match self.rng.random() {
            true => (format!("SELECT '{value}' || $1::text"), format!("{value}!")),
            false => ("SELECT $1::text".to_owned(), "!".to_owned()),
        };
        messages.push(parse(&name, &sql));
        messages.extend([bind("", &name, &["!"]), execute("", 0)]);
        expected.push_str(&format!("{answer} SELECT 1 I"));
        self.expect_pipeline(&messages, &expected)?;
        self.named.insert(name, answer);
        Ok(())
    }

    fn runs_prepared(&mut self) -> Step {
        let name = self.one_of(&["s1", "s2", "s3"]);
        let expected = match self.named.get(name) {
            Some(answer) => format!("{answer} SELECT 1 I"),
            None => "26000 I".to_owned(),
        };
        self.expect_pipeline(&[bind("", name, &["!"]), execute("", 0)], &expected)
    }

    fn keeps_an_unnamed_statement(&mut self) -> Step {
        let value = self.text();
        self.expect_pipeline(&[parse("", &format!("SELECT '{value}'"))], "I")?;
        for _ in 0..2 {
            let expected = format!("{value} SELECT 1 I");
            self.expect_pipeline(&[bind("", "", &[]), execute("", 0)], &expected)?;
        }
        Ok(())
    }

    fn prepares_in_sql(&mut self) -> Step {
        if !self.left.prepared {
            self.expect("EXECUTE leak_p", "26000 I")?;
            let sql = format!("PREPARE leak_p AS SELECT '{}'::text", self.mark);
            self.expect(&sql, "PREPARE I")?;
            self.left.prepared = true;
        }
        let expected = format!("{} SELECT 1 I", self.mark);
        self.expect("EXECUTE leak_p", &expected)?;
        if self.rng.random() {
            self.expect("DEALLOCATE leak_p", "DEALLOCATE I")?;
            self.left.prepared = false;
        }
        Ok(())
    }

    fn uses_a_temporary_table(&mut self) -> Step {
        self.is_itself()?;
        if !self.left.temp {
            self.expect("SELECT m FROM leak_temp", "42P01 I")?;
            let sql = format!(
                "CREATE TEMP TABLE leak_temp AS SELECT '{}'::text AS m",
                self.mark
            );
            self.expect(&sql, "SELECT 1 I")?;
            self.left.temp = true;
        }
        let expected = format!("{} SELECT 1 I", self.mark);
        self.expect("SELECT m FROM leak_temp", &expected)?;
        if self.rng.random() {
            self.expect("DROP TABLE leak_temp", "DROP TABLE I")?;
            self.left.temp = false;
        }
        Ok(())
    }

    fn uses_a_cursor(&mut self) -> Step {
        self.expect("BEGIN", "BEGIN T")?;
        let sql = format!(
            "DECLARE leak_c CURSOR FOR SELECT '{}' || g FROM generate_series(1, 5) AS g",
            self.mark
        );
        self.expect(&sql, "DECLARE CURSOR T")?;
        let expected = format!("{0}1 {0}2 FETCH 2 T", self.mark);
        self.expect("FETCH 2 FROM leak_c", &expected)?;
        self.expect("COMMIT", "COMMIT I")?;
        self.expect("FETCH 1 FROM leak_c", "34000 I")
    }

    fn holds_a_cursor(&mut self) -> Step {
        if !self.left.cursor {
            self.expect("FETCH 1 FROM leak_h", "34000 I")?;
            let sql = format!(
                "DECLARE leak_h CURSOR WITH HOLD FOR SELECT '{}' FROM generate_series(1, 100)",
                self.mark
            );
            self.expect(&sql, "DECLARE CURSOR I")?;
            self.left.cursor = true;
        }
        let expected = format!("{} FETCH 1 I", self.mark);
        self.expect("FETCH 1 FROM leak_h", &expected)?;
        if self.rng.random() {
            self.expect("CLOSE leak_h", "CLOSE CURSOR I")?;
            self.left.cursor = false;
        }
        Ok(())
    }

    fn suspends_a_portal(&mut self) -> Step {
        self.expect("BEGIN", "BEGIN T")?;
        let sql = format!(
            "SELECT '{}' || g FROM generate_series(1, 4) AS g",
            self.mark
        );
        let open = [
            parse("", &sql),
            bind("leak_portal", "", &[]),
            execute("leak_portal", 2),
        ];
        self.expect_pipeline(&open, &format!("{0}1 {0}2 suspended T", self.mark))?;
        let rest = format!("{0}3 {0}4 SELECT 2 T", self.mark);
        self.expect_pipeline(&[execute("leak_portal", 0)], &rest)?;
        self.expect("COMMIT", "COMMIT I")?;
        self.expect_pipeline(&[execute("leak_portal", 0)], "34000 I")
    }

    fn locks(&mut self) -> Step {
        let call = match self.left.lock {
            true => "pg_advisory_unlock",
            false => "pg_try_advisory_lock",
        };
        self.expect(&format!("SELECT {call}({})", self.number), "t SELECT 1 I")?;
        self.left.lock = !self.left.lock;
        Ok(())
    }

    fn errs(&mut self) -> Step {
        let text = self.text();
        match self.rng.random_range(0..5) {
            0 => {
                self.send(&format!("SELECT '{text}'::int"), false);
                self.error_is_its_own("22P02", &text)
            }
            1 => {
                self.send(&format!("SELECT \"{text}\""), true);
                self.error_is_its_own("42703", &text)
            }
            2 => {
                let messages = [parse("", "SELECT $1::int"), bind("", "", &[&text])];
                self.wire.send_bytes(&messages.concat());
                self.wire.send(b'S', b"");
                self.error_is_its_own("22P02", &text)
            }
            3 => self.expect_pipeline(&[parse("", "SELECT $1::int"), bind("", "", &[])], "08P01 I"),
            _ => self.expect(&format!("SELECT '{text}', 1/0"), "22012 I"),
        }
    }

    fn error_is_its_own(&mut self, code: &str, text: &str) -> Step {
        let frames = self.answer()?;
        assert_eq!(digest(&frames), format!("{code} I"));
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        let message = &error.fields()[&'M'];
        assert!(message.contains(text), "{message}");
        Ok(())
    }

    fn fails_a_transaction(&mut self) -> Step {
        self.expect("BEGIN", "BEGIN T")?;
        self.expect("SELECT 1/0", "22012 E")?;
        self.expect(&format!("SELECT '{}'", self.mark), "25P02 E")?;
        let end = self.one_of(&["COMMIT", "ROLLBACK"]);
        self.expect(end, "ROLLBACK I")
    }

    fn is_noticed(&mut self) -> Step {
        let text = self.text();
        self.notices.clear();
        self.expect(&format!("DO $$BEGIN RAISE NOTICE '{text}'; END$$"), "DO I")?;
        let [notice] = &self.notices[..] else {
            panic!("{} notices instead of one", self.notices.len());
        };
        assert_eq!(notice.fields()[&'M'], text);
        Ok(())
    }

    /// On a busy machine the time may be over before the statement has begun. PostgreSQL words that
    /// as if the user had asked for it when it happens between the statements of one text.
    fn runs_out_of_time(&mut self) -> Step {
        self.cancelled = true;
        let end = self.runs_out_of_its_time();
        self.cancelled = false;
        end
    }

    fn runs_out_of_its_time(&mut self) -> Step {
        let sleep = format!("SELECT '{}' FROM pg_sleep(20)", self.mark);
        if self.rng.random() {
            self.expect("BEGIN", "BEGIN T")?;
            let set = self.ask("SET LOCAL statement_timeout = '10ms'")?;
            assert!(["SET T", "57014 E"].contains(&&*set), "{set}");
            if set == "SET T" {
                self.expect(&sleep, "57014 E")?;
            }
            return self.expect("ROLLBACK", "ROLLBACK I");
        }
        let set = self.ask("SET statement_timeout = '10ms'")?;
        assert!(["SET I", "57014 I"].contains(&&*set), "{set}");
        if set == "SET I" {
            self.expect(&sleep, "57014 I")?;
        }
        while self.ask("RESET statement_timeout")? != "RESET I" {}
        Ok(())
    }

    /// Cancels its own statement, or with a key that is nobody's.
    fn cancels(&mut self) -> Step {
        let mut request = self.cancel.clone();
        let forged = self.rng.random();
        if forged {
            let at = self.rng.random_range(4..request.len());
            request[at] ^= 1 << self.rng.random_range(0..8);
        }
        self.cancelled = !forged;
        let extended = self.rng.random();
        let sql = format!("SELECT '{}' FROM pg_sleep(0.01)", self.mark);
        self.send(&sql, extended);
        let mut canceller = Wire::connect(self.port);
        canceller.send_untagged(&request);
        let answer = digest(&self.answer()?);
        // Closed once the server has got it, so that nothing later is hit.
        assert_eq!(canceller.read(), None);
        self.cancelled = false;
        let done = format!("{} SELECT 1 I", self.mark);
        assert!(
            answer == done || (!forged && answer == "57014 I"),
            "{answer}"
        );
        Ok(())
    }

    fn copies(&mut self) -> Step {
        self.is_itself()?;
        match self.rng.random() {
            true => self.copies_out(),
            false => self.copies_in(),
        }
    }

    fn copies_out(&mut self) -> Step {
        let (mark, rows) = (self.mark.clone(), self.rng.random_range(0..3000));
        let sql =
            format!("COPY (SELECT '{mark}' || g FROM generate_series(1, {rows}) AS g) TO STDOUT");
        self.send(&sql, false);
        let frames = self.answer()?;
        let data = frames.iter().filter(|frame| frame.tag == b'd');
        let data: Vec<u8> = data.flat_map(|frame| frame.body.clone()).collect();
        let expected: String = (1..=rows).map(|g| format!("{mark}{g}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&data), expected);
        assert_eq!(digest(&frames), format!("COPY {rows} I"));
        Ok(())
    }

    fn copies_in(&mut self) -> Step {
        self.expect("BEGIN", "BEGIN T")?;
        self.begin_copy_in()?;
        let rows = self.rng.random_range(0..500);
        let data: String = (0..rows).map(|g| format!("{} {g}\n", self.mark)).collect();
        let mut rest = data.as_bytes();
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(self.rng.random_range(1..=rest.len()));
            self.wire.send(b'd', chunk);
            rest = more;
        }
        if self.rng.random_ratio(1, 3) {
            let reason = format!("{}\0", self.mark);
            self.wire.send(b'f', reason.as_bytes());
            assert_eq!(digest(&self.answer()?), "57014 E");
        } else {
            self.wire.send(b'c', b"");
            assert_eq!(digest(&self.answer()?), format!("COPY {rows} T"));
            let count = format!("SELECT count(*) FROM copied WHERE m LIKE '{} %'", self.mark);
            self.expect(&count, &format!("{rows} SELECT 1 T"))?;
        }
        self.expect("ROLLBACK", "ROLLBACK I")
    }

    /// Up to where the server waits for data.
    pub fn begin_copy_in(&mut self) -> Step {
        self.send("COPY copied FROM STDIN", false);
        let frame = self.read().expect("CopyInResponse");
        if frame.tag == b'E' {
            self.note(format!("    {:?}", frame.fields()));
            assert_eq!(
                frame.code(),
                "53300",
                "COPY is refused: {:?}",
                frame.fields()
            );
            return Err(Crowded);
        }
        assert_eq!(frame.tag, b'G');
        Ok(())
    }

    fn listens(&mut self) -> Step {
        let channel = format!("leak_{}", self.number);
        if !self.left.listens {
            self.expect(&format!("LISTEN {channel}"), "LISTEN I")?;
            self.left.listens = true;
        }
        self.notified = 0;
        let text = self.text();
        self.expect(&format!("NOTIFY {channel}, '{text}'"), "NOTIFY I")?;
        while self.notified == 0 {
            let frame = self.wire.read().expect("NotificationResponse");
            assert_eq!(frame.tag, b'A', "{frame:?}");
            let body = String::from_utf8_lossy(&frame.body[4..]).into_owned();
            assert_eq!(body, format!("{channel}\0{text}\0"));
            self.notified += 1;
        }
        if self.rng.random() {
            self.expect(&format!("UNLISTEN {channel}"), "UNLISTEN I")?;
            self.left.listens = false;
        }
        Ok(())
    }

    fn returns_to_a_savepoint(&mut self) -> Step {
        self.expect("BEGIN", "BEGIN T")?;
        self.expect("SAVEPOINT s", "SAVEPOINT T")?;
        self.expect("SELECT 1/0", "22012 E")?;
        self.expect("ROLLBACK TO s", "ROLLBACK T")?;
        let sql = format!("SELECT '{}'", self.mark);
        self.expect(&sql, &format!("{} SELECT 1 T", self.mark))?;
        self.expect("RELEASE s", "RELEASE T")?;
        self.expect("COMMIT", "COMMIT I")
    }

    fn errs_amid_a_pipeline(&mut self) -> Step {
        let (mark, good) = (self.mark.clone(), format!("SELECT '{}'", self.mark));
        let sync = frame(b'S', b"");
        let bad = unnamed("SELECT 1/0");
        let messages = [unnamed(&good), bad.clone(), unnamed(&good)];
        self.expect_pipeline(&messages, &format!("{mark} SELECT 1 22012 I"))?;
        // Three pipelines in one write.
        let pipelines =
            [unnamed(&good), bad, unnamed(&good)].map(|one| [one, sync.clone()].concat());
        self.wire.send_bytes(&pipelines.concat());
        for expected in [
            format!("{mark} SELECT 1 I"),
            "22012 I".to_owned(),
            format!("{mark} SELECT 1 I"),
        ] {
            assert_eq!(digest(&self.answer()?), expected);
        }
        Ok(())
    }

    fn reads_much(&mut self) -> Step {
        let mark = self.mark.clone();
        if self.rng.random() {
            let times = self.rng.random_range(1..30_000);
            let sql = format!("SELECT repeat('{mark}', {times})");
            let expected = format!("{} SELECT 1 I", mark.repeat(times));
            assert!(self.ask(&sql)? == expected, "not all of {times} marks");
            return Ok(());
        }
        let rows = self.rng.random_range(1..3000);
        let sql = format!("SELECT '{mark}' || g FROM generate_series(1, {rows}) AS g");
        let values: String = (1..=rows).map(|g| format!("{mark}{g} ")).collect();
        let expected = format!("{values}SELECT {rows} I");
        assert!(self.ask(&sql)? == expected, "not all of {rows} rows");
        Ok(())
    }

    /// Rows under keys that are its own; what it wrote, it reads, on whatever server.
    fn writes_rows(&mut self) -> Step {
        let first = self.number * 100;
        let keys = first..first + self.rng.random_range(1..4);
        let value = self.text();
        for k in keys.clone() {
            let sql = format!("INSERT INTO rows VALUES ({k}, '{value}')");
            self.expect(&sql, "INSERT 0 1 I")?;
        }
        let list: Vec<_> = keys.clone().map(|k| k.to_string()).collect();
        let found = format!("{value} ").repeat(list.len());
        let sql = format!(
            "SELECT m FROM rows WHERE k IN ({}) ORDER BY k",
            list.join(",")
        );
        self.expect(&sql, &format!("{found}SELECT {} I", list.len()))?;
        for k in keys {
            let in_block = self.rng.random();
            let status = if in_block { "T" } else { "I" };
            if in_block {
                self.expect("BEGIN", "BEGIN T")?;
            }
            let one = format!("SELECT m FROM rows WHERE k = {k}");
            self.expect(&one, &format!("{value} SELECT 1 {status}"))?;
            let sql = format!("DELETE FROM rows WHERE k = {k}");
            self.expect(&sql, &format!("DELETE 1 {status}"))?;
            if in_block {
                self.expect("COMMIT", "COMMIT I")?;
            }
            self.expect(&one, "SELECT 0 I")?;
        }
        Ok(())
    }

    fn discards_all(&mut self) -> Step {
        self.expect("DISCARD ALL", "DISCARD ALL I")?;
        self.settings = self.base.clone();
        self.named.clear();
        self.left = Default::default();
        self.settings_are_its_own()
    }
}

/// What happens to settings where a session cannot see it at once.
impl Client {
    fn ends_a_block_within_a_text(&mut self) -> Step {
        let (name, value) = self.choose_setting();
        self.expect("BEGIN", "BEGIN T")?;
        self.expect(&format!("SET {name} = '{value}'"), "SET T")?;
        let cases = [
            ("COMMIT; SELECT 1/0", "COMMIT 22012 I", true),
            ("COMMIT; BEGIN; ROLLBACK", "COMMIT BEGIN ROLLBACK I", true),
            ("COMMIT; SELECT 1", "COMMIT 1 SELECT 1 I", true),
            ("ROLLBACK; SELECT 1", "ROLLBACK 1 SELECT 1 I", false),
            ("ROLLBACK; SELECT 1/0", "ROLLBACK 22012 I", false),
            ("ROLLBACK; BEGIN; COMMIT", "ROLLBACK BEGIN COMMIT I", false),
        ];
        let (text, answer, kept) = self.one_of(&cases);
        self.send(text, false);
        assert_eq!(digest(&self.answer()?), answer, "{text}");
        if kept {
            self.settings.insert(name, value);
        }
        self.settings_are_its_own()
    }

    fn chains(&mut self) -> Step {
        let (name, value) = self.choose_setting();
        self.expect("BEGIN", "BEGIN T")?;
        self.expect(&format!("SET {name} = '{value}'"), "SET T")?;
        let (verb, kept) = self.one_of(&[("COMMIT", true), ("ROLLBACK", false)]);
        self.expect(&format!("{verb} AND CHAIN"), &format!("{verb} T"))?;
        let (end, tag) = self.one_of(&[("COMMIT", "COMMIT I"), ("ROLLBACK", "ROLLBACK I")]);
        self.expect(end, tag)?;
        if kept {
            self.settings.insert(name, value);
        }
        self.settings_are_its_own()
    }

    /// Nobody else finds a temporary table in the place of `rows`.
    fn creates_under_a_path_of_its_own(&mut self) -> Step {
        self.is_itself()?;
        self.expect("SELECT count(*) FROM rows WHERE k = 0", "0 SELECT 1 I")?;
        self.expect("BEGIN", "BEGIN T")?;
        let set = "SELECT set_config('search_path', 'pg_temp', true)";
        self.expect(set, "pg_temp SELECT 1 T")?;
        self.expect("CREATE TABLE rows (k int, m text)", "CREATE TABLE T")?;
        let sql = format!("INSERT INTO rows VALUES (0, '{}')", self.mark);
        self.expect(&sql, "INSERT 0 1 T")?;
        self.expect("COMMIT", "COMMIT I")?;
        let expected = format!("{} SELECT 1 I", self.mark);
        self.expect("SELECT m FROM rows WHERE k = 0", &expected)?;
        self.expect("DROP TABLE pg_temp.rows", "DROP TABLE I")
    }

    /// A text that everybody has, read under settings that only this transaction has.
    fn prepares_in_another_time_zone(&mut self) -> Step {
        const SQL: &str = "SELECT extract(epoch FROM '2026-01-01'::timestamptz)::bigint";
        let prepared = [
            parse("leak_zone", SQL),
            bind("", "leak_zone", &[]),
            execute("", 0),
            frame(b'C', b"Sleak_zone\0"),
        ];
        let epoch = |zone: &str| match zone {
            "Asia/Tokyo" => "1767193200",
            "Europe/Paris" => "1767222000",
            _ => "1767225600",
        };
        let own = self.settings["TimeZone"].clone();
        let expected = format!("{} SELECT 1 closed I", epoch(&own));
        self.expect_pipeline(&prepared, &expected)?;
        let zone = self.one_of(&["Asia/Tokyo", "Europe/Paris", "UTC"]);
        match self.rng.random() {
            true => {
                self.expect("BEGIN", "BEGIN T")?;
                let set = format!("SELECT set_config('TimeZone', '{zone}', true)");
                self.expect(&set, &format!("{zone} SELECT 1 T"))?;
            }
            false => {
                self.send(&format!("BEGIN; SET LOCAL TimeZone TO '{zone}'"), false);
                assert_eq!(digest(&self.answer()?), "BEGIN SET T");
            }
        }
        let there = format!("{} SELECT 1 closed T", epoch(zone));
        self.expect_pipeline(&prepared, &there)?;
        self.expect("COMMIT", "COMMIT I")?;
        self.expect_pipeline(&prepared, &expected)
    }

    /// What is prepared after a table has changed has its new columns, wherever it runs.
    fn alters_what_it_has_prepared(&mut self) -> Step {
        self.is_itself()?;
        let table = format!("leak_altered_{}", self.number);
        let sql = format!("SELECT * FROM {table}");
        let one = format!(
            "CREATE TABLE IF NOT EXISTS {table} AS SELECT '{}' AS m",
            self.mark
        );
        self.expect(&one, "SELECT 1 I")?;
        let run = |name: &str| {
            [
                parse(name, &sql),
                frame(b'D', format!("S{name}\0").as_bytes()),
                bind("", name, &[]),
                execute("", 0),
                frame(b'C', format!("S{name}\0").as_bytes()),
            ]
        };
        for _ in 0..4 {
            let expected = format!("{} SELECT 1 closed I", self.mark);
            self.expect_pipeline(&run("leak_before"), &expected)?;
        }
        let change = format!("ALTER TABLE {table} ALTER m TYPE int USING 7");
        self.expect(&change, "ALTER TABLE I")?;
        for _ in 0..4 {
            self.expect_pipeline(&run("leak_after"), "7 SELECT 1 closed I")?;
        }
        self.expect(&format!("DROP TABLE {table}"), "DROP TABLE I")
    }

    /// What others set in other characters than ASCII passes over connections that speak LATIN1.
    fn speaks_latin1(&mut self) -> Step {
        self.settings_are_its_own()?;
        let set = self.ask("SET client_encoding = 'LATIN1'")?;
        if set == "0A000 I" {
            // It has listened.
            return Ok(());
        }
        assert_eq!(set, "SET I");
        for _ in 0..3 {
            self.expect("SELECT length(U&'\\00e9')", "1 SELECT 1 I")?;
        }
        self.expect("SET client_encoding = 'UTF8'", "SET I")?;
        self.settings_are_its_own()
    }
}
