//! Results and COPY data pass through in constant memory.

use std::path::Path;

use ringway::demo::captive::Spec;

use crate::sessions::pooler;
use crate::support::wire::{Wire, bind, digest, execute, frame, parse};
use crate::support::{self, Ringway};

/// What one client's data may add to the process's peak, in KiB. 300 MB pass.
const ALLOWED_KIB: u64 = 8 * 1024;

/// The process that listens on the Ringway's port: the child of its guard.
pub(crate) fn process(ringway: &Ringway) -> u32 {
    let config = ringway.proxy.config_file.to_string_lossy().into_owned();
    let is_ours = |directory: &Path| {
        let line = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.first() == Some(&env!("CARGO_BIN_EXE_ringway").as_bytes())
            && words.contains(&config.as_bytes())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| is_ours(path))
        .and_then(|path| path.file_name()?.to_str()?.parse().ok())
        .expect("a running ringway")
}

/// Most memory the process has had resident so far, in KiB.
pub(crate) fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_large_result_and_a_large_copy_pass_in_constant_memory() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE UNLOGGED TABLE t (v text)").unwrap();
    let ringway = pooler(&cluster, "");
    let pid = process(&ringway);
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
    wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 1000)");
    wire.read_to_ready();
    let before = peak(pid);
    wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 300000)");
    // Nothing is read until the server cannot get rid of more.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    primary
        .wait_for(waits, "1", std::time::Duration::from_secs(20))
        .unwrap();
    let mut rows = 0;
    while let Some(frame) = wire.read().filter(|frame| frame.tag != b'Z') {
        rows += u32::from(frame.tag == b'D');
    }
    assert_eq!(rows, 300_000);
    let after = peak(pid);
    assert!(
        after - before < ALLOWED_KIB,
        "SELECT: {before} -> {after} KiB"
    );
    wire.query("COPY t FROM STDIN");
    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'G'));
    let data = frame(b'd', &[&b"x".repeat(999)[..], b"\n"].concat()).repeat(100);
    for _ in 0..1000 {
        wire.send_bytes(&data);
    }
    wire.send(b'c', b"");
    let frames = wire.read_to_ready();
    assert_eq!(frames[0].body, b"COPY 100000\0", "{frames:?}");
    let after = peak(pid);
    assert!(
        after - before < ALLOWED_KIB,
        "COPY: {before} -> {after} KiB"
    );
}

/// A frame whose body is `head`, `len` times the letter x, and `tail`, sent in pieces.
fn send_large(wire: &mut Wire, tag: u8, head: &[u8], len: usize, tail: &[u8]) {
    let length = 4 + head.len() + len + tail.len();
    wire.send_bytes(&[tag]);
    wire.send_bytes(&(length as u32).to_be_bytes());
    wire.send_bytes(head);
    let piece = vec![b'x'; 1 << 20];
    let mut rest = len;
    while rest > 0 {
        let here = rest.min(piece.len());
        wire.send_bytes(&piece[..here]);
        rest -= here;
    }
    wire.send_bytes(tail);
}

/// The beginning of a Bind of the unnamed portal to `statement`, up to the one value of `len` bytes.
fn bind_head(statement: &str, len: usize) -> Vec<u8> {
    let mut head = format!("\0{statement}\0\0\0\0\x01").into_bytes();
    head.extend_from_slice(&(len as u32).to_be_bytes());
    head
}

const MB: usize = 1_000_000;

#[test]
fn large_messages_pass_in_constant_memory_in_either_direction() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE UNLOGGED TABLE t (v text)").unwrap();
    let ringway = pooler(&cluster, "");
    let pid = process(&ringway);
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
    assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    let before = peak(pid);
    let grown = |what: &str| {
        let after = peak(pid);
        assert!(
            after - before < ALLOWED_KIB,
            "{what}: {before} -> {after} KiB"
        );
    };
    // Named and unnamed, the latter amid a pipeline.
    wire.send_bytes(&parse("length", "SELECT length($1::text)"));
    send_large(
        &mut wire,
        b'B',
        &bind_head("length", 300 * MB),
        300 * MB,
        b"\0\0",
    );
    wire.send_bytes(&execute("", 0));
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "300000000 SELECT 1 I");
    grown("named Bind");
    wire.send_bytes(&parse("", "SELECT length($1::text) + 1"));
    send_large(&mut wire, b'B', &bind_head("", 70 * MB), 70 * MB, b"\0\0");
    wire.send_bytes(&execute("", 0));
    send_large(
        &mut wire,
        b'B',
        &bind_head("length", 300_000),
        300_000,
        b"\0\0",
    );
    wire.send_bytes(&execute("", 0));
    wire.send(b'S', b"");
    let answer = "70000001 SELECT 1 300000 SELECT 1 I";
    assert_eq!(digest(&wire.read_to_ready()), answer);
    grown("pipelined Bind");
    // What an error makes PostgreSQL skip is skipped, and what has no statement.
    wire.send_bytes(&parse("", "SELEC"));
    wire.send(b'H', b"");
    send_large(
        &mut wire,
        b'B',
        &bind_head("length", 70 * MB),
        70 * MB,
        b"\0\0",
    );
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "42601 I");
    send_large(
        &mut wire,
        b'B',
        &bind_head("nowhere", 70 * MB),
        70 * MB,
        b"\0\0",
    );
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "26000 I");
    grown("skipped Bind");
    // Without a name and with one, refused and skipped ones among them.
    let text = b"\0SELECT length('";
    send_large(&mut wire, b'P', text, 200 * MB, b"')\0\0\0");
    wire.send_bytes(&[bind("", "", &[]), execute("", 0)].concat());
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "200000000 SELECT 1 I");
    grown("unnamed Parse");
    let named = [b"long", &text[..]].concat();
    send_large(&mut wire, b'P', &named, 200 * MB, b"')\0\0\0");
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "I");
    send_large(&mut wire, b'P', &named, 70 * MB, b"')\0\0\0");
    send_large(&mut wire, b'P', text, 70 * MB, b"')\0\0\0");
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "42P05 I");
    for _ in 0..2 {
        let again = wire.ask_pipeline(&[bind("", "long", &[]), execute("", 0)]);
        assert_eq!(again, "200000000 SELECT 1 I");
    }
    grown("named Parse");
    assert_eq!(wire.ask("DISCARD ALL"), "DISCARD ALL I");
    wire.query("COPY t FROM STDIN");
    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'G'));
    send_large(&mut wire, b'd', b"", 300 * MB, b"\n");
    wire.send(b'c', b"");
    assert_eq!(digest(&wire.read_to_ready()), "COPY 1 I");
    grown("CopyData");
    // octet_length(bytea) is 720.
    let mut call = 720u32.to_be_bytes().to_vec();
    call.extend_from_slice(&[0, 1, 0, 1, 0, 1]);
    call.extend_from_slice(&(100 * MB as u32).to_be_bytes());
    send_large(&mut wire, b'F', &call, 100 * MB, &[0, 1]);
    let frames = wire.read_to_ready();
    assert_eq!(frames[0].tag, b'V', "{}", digest(&frames));
    assert_eq!(frames[0].body[4..], (100 * MB as u32).to_be_bytes());
    grown("FunctionCall");
    send_large(
        &mut wire,
        b'Q',
        b"SET work_mem = '7MB'; SELECT length('",
        200 * MB,
        b"')\0",
    );
    assert_eq!(digest(&wire.read_to_ready()), "SET 200000000 SELECT 1 I");
    grown("Query");
    // What such a text has set stays with its client.
    assert_eq!(wire.ask("SHOW work_mem"), "7MB SHOW I");
    // An error and a notice of 30 MB each.
    wire.query("DO $$ BEGIN RAISE NOTICE '%', repeat('x', 30000000); END $$");
    let frames = wire.read_to_ready();
    assert_eq!((frames[0].tag, digest(&frames)), (b'N', "DO I".to_owned()));
    assert!(frames[0].body.len() > 30 * MB);
    wire.query("DO $$ BEGIN RAISE '%', repeat('x', 30000000); END $$");
    let frames = wire.read_to_ready();
    assert_eq!(digest(&frames), "P0001 I");
    assert!(frames[0].body.len() > 30 * MB);
    grown("NoticeResponse and ErrorResponse");
    wire.query("SELECT repeat('x', 500000000)");
    let frames = wire.read_to_ready();
    assert_eq!(frames[1].body.len(), 500_000_006);
    grown("DataRow");
}

#[test]
fn a_client_that_dies_amid_a_large_message_harms_nobody() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "");
    let (mut neighbour, _) = Wire::login(ringway.port(), "ringway", "shop");
    let lengths = "SELECT length($1::text)";
    for statement in ["bind", "query", "call", "parse"] {
        let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
        wire.send_bytes(&parse("s", lengths));
        wire.send(b'S', b"");
        wire.read_to_ready();
        let (tag, head) = match statement {
            "bind" => (b'B', bind_head("s", 300 * MB)),
            "query" => (b'Q', b"SELECT '".to_vec()),
            "parse" => (b'P', b"name\0SELECT '".to_vec()),
            _ => (b'F', 720u32.to_be_bytes().to_vec()),
        };
        // The frame says 300 MB and brings 10.
        wire.send_bytes(&[tag]);
        wire.send_bytes(&(300 * MB as u32).to_be_bytes());
        wire.send_bytes(&head);
        wire.send_bytes(&vec![b'x'; 10 * MB]);
        drop(wire);
        assert_eq!(neighbour.ask("SELECT 1"), "1 SELECT 1 I");
    }
    // All that came to the servers is gone from them, and the pool serves on.
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                AND usename = 'ringway' AND state <> 'idle' AND pid <> pg_backend_pid()";
    let limit = std::time::Duration::from_secs(10);
    cluster.shards[0]
        .primary
        .wait_for(busy, "0", limit)
        .unwrap();
    assert_eq!(neighbour.ask("SELECT 2"), "2 SELECT 1 I");
}

/// All of a pipeline is sent before any of it is read, as a client does that waits for nothing. What
/// is owed to it fits into sockets, for PostgreSQL as for us.
#[test]
fn a_pipeline_of_thousands_needs_no_reader_before_its_end() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "");
    for port in [cluster.shards[0].primary.port, ringway.port()] {
        let (mut wire, _) = Wire::login(port, "ringway", "shop");
        wire.send_bytes(&parse("s", "SELECT $1::int"));
        for n in 0..5000 {
            let mut value = bind_head("s", n.to_string().len());
            value.extend_from_slice(n.to_string().as_bytes());
            value.extend_from_slice(b"\0\0");
            wire.send(b'B', &value);
            wire.send_bytes(&execute("", 0));
        }
        wire.send(b'S', b"");
        let frames = wire.read_to_ready();
        let rows = frames.iter().filter(|frame| frame.tag == b'D');
        let rows: Vec<_> = rows.map(|frame| frame.body[6..].to_vec()).collect();
        let expected: Vec<_> = (0..5000).map(|n| n.to_string().into_bytes()).collect();
        assert_eq!(rows, expected);
    }
}
