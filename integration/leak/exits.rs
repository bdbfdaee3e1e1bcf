//! How a client goes: in order, or in the middle of anything.

use rand::Rng;

use super::client::Client;
use crate::support::wire::{bind, execute, frame, parse, unnamed};

impl Client {
    /// Ends the session, one way or another.
    pub fn leave(mut self) {
        match self.rng.random_range(0..8) {
            0 | 1 => self.wire.send(b'X', b""),
            2 => {}
            3 => self.vanish_amid_a_frame(),
            4 => self.vanish_in_a_transaction(),
            5 => {
                let sql = format!("SELECT '{}' FROM pg_sleep(60)", self.mark);
                let extended = self.rng.random();
                self.send(&sql, extended);
            }
            6 => self.vanish_amid_an_answer(),
            _ => self.vanish_amid_a_copy(),
        }
        match self.rng.random() {
            true => self.wire.finish_sending(),
            false => self.wire.reset_on_close(),
        }
    }

    /// A pipeline with everything in it, cut off at any byte.
    fn vanish_amid_a_frame(&mut self) {
        let mark = &self.mark;
        let sql = |text: &str| unnamed(&text.replace("$", mark));
        let simple = |text: &str| frame(b'Q', format!("{}\0", text.replace("$", mark)).as_bytes());
        let sync = frame(b'S', b"");
        let mut frames = vec![
            sql("SET application_name = '$'"),
            sync.clone(),
            parse("s1", &format!("SELECT '{mark}' || $1")),
            bind("leak_portal", "s1", &[mark]),
            frame(b'D', b"Ss1\0"),
            execute("leak_portal", 0),
            frame(b'H', b""),
            sync,
            simple("SET leak.token = '$'"),
            simple("SELECT repeat('$', 3000)"),
            simple("BEGIN"),
            simple("SET LOCAL leak.token = '$'"),
            sql("SELECT '$'::int"),
            frame(b'f', mark.as_bytes()),
        ];
        if !self.place.sharded {
            frames.extend([
                simple("ROLLBACK"),
                simple("CREATE TEMP TABLE leak_cut AS SELECT '$' AS m"),
                simple("DECLARE leak_h2 CURSOR WITH HOLD FOR SELECT '$'"),
                simple("PREPARE leak_p2 AS SELECT '$'"),
            ]);
        }
        let first = self.rng.random_range(0..frames.len());
        let bytes = frames[first..].concat();
        let cut = self.rng.random_range(0..=bytes.len());
        let _ = self.wire.try_send(&bytes[..cut]);
    }

    fn vanish_in_a_transaction(&mut self) {
        let sql = format!(
            "INSERT INTO rows VALUES ({}, 'abandoned {}')",
            self.number * 100 + 50,
            self.mark
        );
        let ask = |client: &mut Self, sql: &str| client.ask(sql).is_ok();
        let _ = ask(self, "BEGIN") && ask(self, &sql) && ask(self, "SET LOCAL work_mem = '9MB'");
    }

    /// With most of a large answer unread.
    fn vanish_amid_an_answer(&mut self) {
        let rows = format!(
            "SELECT repeat('{}', 200) FROM generate_series(1, 5000)",
            self.mark
        );
        let sql = match self.place.sharded || self.rng.random() {
            true => rows,
            false => format!("COPY ({rows}) TO STDOUT"),
        };
        self.send(&sql, false);
        for _ in 0..self.rng.random_range(0..20) {
            // Where the pool was crowded, no answer comes.
            if self.read().is_none_or(|frame| frame.tag == b'E') {
                break;
            }
        }
    }

    fn vanish_amid_a_copy(&mut self) {
        if self.place.sharded || self.begin_copy_in().is_err() {
            return;
        }
        let row = frame(b'd', format!("abandoned {}\n", self.mark).as_bytes());
        let bytes = row.repeat(self.rng.random_range(1..200));
        let cut = self.rng.random_range(0..=bytes.len());
        let _ = self.wire.try_send(&bytes[..cut]);
    }
}
