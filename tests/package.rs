//! What the Debian package brings besides the program: systemd finds no fault with its units, and the
//! configuration to start from is one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn conf(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(file)
}

/// What systemd-analyze says of copies of the units, whose program is the one that was built.
fn analyzed(arguments: &[&str], units: &[&str]) -> Option<Output> {
    let directory = tempfile::tempdir().unwrap();
    let copies = units.iter().map(|unit| {
        let text = std::fs::read_to_string(conf(unit)).unwrap();
        let text = text.replace("/usr/bin/ringway", env!("CARGO_BIN_EXE_ringway"));
        let copy = directory.path().join(unit);
        std::fs::write(&copy, text).unwrap();
        copy
    });
    let copies: Vec<_> = copies.collect();
    let mut command = Command::new("systemd-analyze");
    match command.args(arguments).args(copies).output() {
        Ok(output) => Some(output),
        Err(_) => {
            println!("skipped: systemd-analyze is not installed");
            None
        }
    }
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    let Some(output) = analyzed(&["verify"], &["ringway.service", "ringway.socket"]) else {
        return;
    };
    // It reads what they want, too: this machine's own units may have faults.
    let said = String::from_utf8_lossy(&output.stderr);
    let faults: Vec<_> = said
        .lines()
        .filter(|line| line.contains("ringway"))
        .collect();
    assert!(faults.is_empty(), "{said}");
    assert!(output.status.success(), "{output:?}");
}

/// From 0, nothing may be done, to 100.
const EXPOSURE: &str = "--threshold=16";

#[test]
fn the_service_gives_up_what_it_does_not_need() {
    let arguments = ["security", "--offline=true", "--no-pager", EXPOSURE];
    if let Some(output) = analyzed(&arguments, &["ringway.service"]) {
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(table.contains("Overall exposure level"), "{output:?}");
        assert!(output.status.success(), "{table}");
    }
}

#[test]
fn the_configuration_to_start_from_is_valid() {
    let path = conf("debian/ringway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = ringway::config::parse(&text, &path, &|_| None).unwrap();
    assert_eq!(config.databases.len(), 1);
}
