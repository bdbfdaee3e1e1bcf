//! Results and COPY data pass through in constant memory.

use std::path::Path;

use ringway::demo::captive::Spec;

use crate::sessions::pooler;
use crate::support::wire::{Wire, frame};
use crate::support::{self, Ringway};

/// What one client's data may add to the process's peak, in KiB. 300 MB pass.
const ALLOWED_KIB: u64 = 8 * 1024;

/// The process that listens on the Ringway's port: the child of its guard.
fn process(ringway: &Ringway) -> u32 {
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
fn peak(pid: u32) -> u64 {
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
