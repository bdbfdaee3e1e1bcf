//! Slots against those that PostgreSQL itself computed.

use planner::catalog::KeyType;
use planner::hash::{slot_of_int, slot_of_text, slot_of_uuid};
use planner::slot_of_row;

const VECTORS: &str = include_str!("testdata/hash_vectors.txt");
const KEYS: &str = include_str!("vectors/keys.txt");
const ROWS: &str = include_str!("vectors/rows.txt");

#[test]
fn slots_are_postgresqls() {
    let mut seen = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.splitn(3, ' ');
        let mut field = || fields.next().expect("three fields");
        let (kind, slot, key) = (field(), field(), field());
        let ours = match kind {
            "int" => slot_of_int(key.parse().expect("an integer")),
            "text" => slot_of_text(key.as_bytes()),
            "uuid" => slot_of_uuid(uuid(key)),
            other => panic!("unknown kind {other}"),
        };
        assert_eq!(ours.to_string(), slot, "{line}");
        seen += 1;
    }
    assert!(seen > 300, "only {seen} vectors");
}

fn uuid(text: &str) -> [u8; 16] {
    let digits = text.replace('-', "");
    u128::from_str_radix(&digits, 16)
        .expect("hexadecimal")
        .to_be_bytes()
}

fn key_type(name: &str) -> KeyType {
    match name {
        "int4" => KeyType::Int4,
        "int8" => KeyType::Int8,
        "text" => KeyType::Text,
        "bpchar" => KeyType::Bpchar,
        "uuid" => KeyType::Uuid,
        "date" => KeyType::Date,
        "timestamp" => KeyType::Timestamp,
        "timestamptz" => KeyType::Timestamptz,
        "numeric" => KeyType::Numeric,
        "bytea" => KeyType::Bytea,
        other => panic!("unknown type {other}"),
    }
}

#[test]
fn slots_are_postgresqls_in_both_formats() {
    let mut seen = 0;
    for line in KEYS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.splitn(4, ' ').collect();
        let [name, slot, send, text] = fields[..] else {
            panic!("{line}");
        };
        let bytes: Vec<u8> = (0..send.len() / 2)
            .map(|at| u8::from_str_radix(&send[2 * at..2 * at + 2], 16).expect("hexadecimal"))
            .collect();
        let slot: Option<u16> = Some(slot.parse().expect("a slot"));
        let of = |value: &[u8], binary| slot_of_row(&[(key_type(name), value)], binary);
        assert_eq!(of(text.as_bytes(), false), slot, "{line}");
        assert_eq!(of(&bytes, true), slot, "{line}");
        seen += 1;
    }
    assert!(seen > 400, "only {seen} vectors");
}

#[test]
fn slots_of_several_columns_are_postgresqls() {
    let mut seen = 0;
    for line in ROWS.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.splitn(3, ' ').collect();
        let types = fields[0].split(',').map(key_type);
        let columns: Vec<_> = types.zip(fields[2].split('|').map(str::as_bytes)).collect();
        let slot = slot_of_row(&columns, false).expect("plain values");
        assert_eq!(slot.to_string(), fields[1], "{line}");
        seen += 1;
    }
    assert!(seen >= 100, "only {seen} vectors");
}
