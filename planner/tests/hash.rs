//! Slots against those that PostgreSQL itself computed.

use planner::hash::{slot_of_int, slot_of_text, slot_of_uuid};

const VECTORS: &str = include_str!("testdata/hash_vectors.txt");

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
