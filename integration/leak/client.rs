//! One client of the storm: what it may see, and what it must see.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::Place;
use crate::support::wire::{Frame, Wire, cancel_request, digest, frame, unnamed};

/// Two busy cores, hundreds of clients and few servers: an answer takes long, but not forever.
const LIMIT: Duration = Duration::from_secs(90);
/// What every mark begins with; nothing else that a server says has it.
const MARK: &[u8] = b"<k";

/// No server connection came free in time: the client goes, nothing else is wrong.
pub struct Crowded;
pub type Step<T = ()> = Result<T, Crowded>;

pub struct Client {
    pub port: u16,
    pub place: &'static Place,
    pub rng: StdRng,
    pub wire: Wire,
    /// In every text of this client, and in no other's.
    pub mark: String,
    /// Unique as the mark is; room for a hundred keys above it.
    pub number: i64,
    /// The CancelRequest for this client.
    pub cancel: Vec<u8>,
    /// What SHOW must say, by name; as the session began, and now.
    pub base: BTreeMap<&'static str, String>,
    pub settings: BTreeMap<&'static str, String>,
    /// Prepared statements by name, with the answer of each.
    pub named: BTreeMap<String, String>,
    pub left: Left,
    /// Notifications that came and were not yet looked for.
    pub notified: usize,
    pub notices: Vec<Frame>,
    /// Whether a statement may have been cancelled by this client itself.
    pub cancelled: bool,
    /// The last things that happened, told when something is wrong.
    log: Vec<String>,
    seed: u64,
}

/// What this client has left in its session.
#[derive(Default)]
pub struct Left {
    pub temp: bool,
    pub prepared: bool,
    pub cursor: bool,
    pub lock: bool,
    pub listens: bool,
}

impl Client {
    /// Logs in with settings of its own in the startup packet, or without.
    pub fn arrive(port: u16, place: &'static Place, number: i64, seed: u64) -> Step<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mark = format!("<k{number}>");
        let user = place.users[rng.random_range(0..place.users.len())];
        let mut base = BTreeMap::from([
            ("application_name", String::new()),
            ("leak.token", String::new()),
            ("work_mem", "4MB".to_owned()),
            ("TimeZone", "UTC".to_owned()),
            ("role", place.role(user).to_owned()),
        ]);
        let mut startup = vec![("user".to_owned(), user.to_owned())];
        startup.push(("database".to_owned(), place.name.to_owned()));
        if rng.random() {
            startup.push(("application_name".to_owned(), mark.clone()));
            base.insert("application_name", mark.clone());
        }
        if rng.random_ratio(1, 3) {
            let work_mem = format!("{}MB", rng.random_range(5..100));
            let options = format!("-c work_mem={work_mem} -c leak.token={mark}");
            startup.push(("options".to_owned(), options));
            base.insert("work_mem", work_mem);
            base.insert("leak.token", mark.clone());
        }
        let mut wire = Wire::connect(port);
        wire.set_limit(LIMIT);
        let pairs: Vec<_> = startup.iter().map(|(n, v)| (&**n, &**v)).collect();
        wire.send_startup(196_608, &pairs);
        let frames = wire.read_to_ready();
        let refused = frames.iter().find(|frame| frame.tag == b'E');
        match refused.map(Frame::code).as_deref() {
            None => {}
            Some("53300") => return Err(Crowded),
            Some(_) => panic!("login of {mark}: {:?}", refused.unwrap().fields()),
        }
        let client = Self {
            port,
            place,
            rng,
            wire,
            mark,
            number,
            cancel: cancel_request(&frames),
            settings: base.clone(),
            base,
            named: BTreeMap::new(),
            left: Left::default(),
            notified: 0,
            notices: Vec::new(),
            cancelled: false,
            log: vec![format!("startup {pairs:?}")],
            seed,
        };
        frames.iter().for_each(|frame| client.check_marks(frame));
        Ok(client)
    }

    pub fn note(&mut self, what: String) {
        const KEPT: usize = 40;
        if self.log.len() > KEPT {
            self.log.remove(0);
        }
        self.log.push(what.chars().take(400).collect());
    }

    /// Nobody's mark but its own, however deep in a frame.
    fn check_marks(&self, frame: &Frame) {
        // A random key may look like anything.
        if frame.tag == b'K' {
            return;
        }
        let own = &self.mark.as_bytes()[MARK.len()..];
        for at in memchr::memmem::find_iter(&frame.body, MARK) {
            let found = &frame.body[at + MARK.len()..];
            assert!(
                found.starts_with(own),
                "{} was shown what is not its own: {:?} in a frame {:?}",
                self.mark,
                String::from_utf8_lossy(&found[..found.len().min(40)]),
                char::from(frame.tag)
            );
        }
    }

    /// The next frame that answers something; notices, notifications and parameters are put aside.
    pub fn read(&mut self) -> Option<Frame> {
        loop {
            let frame = self.wire.read()?;
            self.check_marks(&frame);
            match frame.tag {
                b'A' => self.notified += 1,
                b'N' => self.notices.push(frame),
                b'S' => {}
                b'E' => {
                    self.check_cancelled(&frame);
                    return Some(frame);
                }
                _ => return Some(frame),
            }
        }
    }

    /// Whoever did not cancel is not cancelled.
    fn check_cancelled(&self, error: &Frame) {
        let fields = error.fields();
        let by_request = fields[&'M'] == "canceling statement due to user request";
        assert!(
            self.cancelled || !by_request,
            "{} was cancelled by another: {fields:?}",
            self.mark
        );
    }

    /// The answer up to ReadyForQuery, without what may come at any time.
    pub fn answer(&mut self) -> Step<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read() {
            let ready = frame.tag == b'Z';
            frames.push(frame);
            if ready {
                break;
            }
        }
        let tags: String = frames.iter().map(|frame| char::from(frame.tag)).collect();
        self.note(format!("    {:.300} ({tags:.60})", digest(&frames)));
        let crowded = |frame: &Frame| frame.tag == b'E' && frame.code() == "53300";
        match frames.iter().any(crowded) {
            true => Err(Crowded),
            false => Ok(frames),
        }
    }

    /// Runs one statement in either protocol.
    pub fn ask(&mut self, sql: &str) -> Step<String> {
        let extended = self.rng.random();
        self.send(sql, extended);
        Ok(digest(&self.answer()?))
    }

    pub fn send(&mut self, sql: &str, extended: bool) {
        self.note(format!("{} {sql}", if extended { "E" } else { "Q" }));
        match extended {
            false => self.wire.query(sql),
            true => {
                let messages = [unnamed(sql), frame(b'S', b"")].concat();
                self.wire.send_bytes(&messages);
            }
        }
    }

    /// As [`Client::ask`], for a statement that has one right answer.
    pub fn expect(&mut self, sql: &str, expected: &str) -> Step {
        let answer = self.ask(sql)?;
        assert_eq!(answer, expected, "{sql}");
        Ok(())
    }

    /// Sends messages with a Sync after them; they have one right answer.
    pub fn expect_pipeline(&mut self, messages: &[Vec<u8>], expected: &str) -> Step {
        let bytes = messages.concat();
        self.note(format!("P {}", bytes.escape_ascii()));
        self.wire.send_bytes(&bytes);
        self.wire.send(b'S', b"");
        let answer = digest(&self.answer()?);
        assert_eq!(answer, expected, "{}", bytes.escape_ascii());
        Ok(())
    }

    /// One of a list.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.random_range(0..choices.len())]
    }

    /// A text of this client's that was never used before.
    pub fn text(&mut self) -> String {
        format!("{} {}", self.mark, self.rng.random_range(0..1_000_000))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {} on {}, seed {}\n{}\n---",
                self.mark,
                self.place.name,
                self.seed,
                self.log.join("\n")
            );
        }
    }
}
