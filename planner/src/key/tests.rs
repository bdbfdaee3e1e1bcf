use super::input::{unquoted, uuid};
use super::*;
use crate::catalog::{KeyColumn, RelationKind, Table};
use crate::hash::slot_of_int;
use crate::placement::{Mapping, Rule, RuleId};
use crate::topology::ShardWeight;

fn column(key_type: KeyType, insert: Option<Keeps>) -> KeyPart {
    KeyPart {
        key_type,
        name: "orders.id".into(),
        insert,
    }
}

fn param(
    value: &[u8],
    binary: bool,
    type_oid: u32,
    key_type: KeyType,
) -> Result<Option<u16>, Refusal> {
    let params = [Param {
        value: Some(value),
        binary,
        type_oid,
    }];
    let values = Values {
        params: &params,
        ..Values::default()
    };
    Ok(slot(read(
        &ValueRef::Param(0),
        &column(key_type, None),
        values,
    )?))
}

fn slot(reading: Reading<'_>) -> Option<u16> {
    match reading {
        Reading::Is(datum) => Some(hash::slot_of([datum.hash()])),
        Reading::Null | Reading::Nowhere | Reading::Unclear => None,
    }
}

#[test]
fn integers_agree_in_all_widths_and_formats() {
    let slot = Ok(Some(slot_of_int(-17)));
    assert_eq!(param(b" -17 ", false, 0, KeyType::Int8), slot);
    assert_eq!(
        param(&(-17i16).to_be_bytes(), true, oid::INT2, KeyType::Int8),
        slot
    );
    assert_eq!(param(&(-17i32).to_be_bytes(), true, 0, KeyType::Int2), slot);
    assert_eq!(
        param(&(-17i64).to_be_bytes(), true, oid::INT8, KeyType::Int4),
        slot
    );
}

#[test]
fn integers_are_read_as_postgresql_16_reads_them() {
    let expected = param(b"17", false, 0, KeyType::Int8);
    for text in ["0x11", "0X_1_1", "0o21", "0b1_0001", "1_7", " +0x11 "] {
        let key = param(text.as_bytes(), false, 0, KeyType::Int8);
        assert_eq!(key, expected, "{text}");
    }
    let expected = param(b"-32768", false, 0, KeyType::Int2);
    assert_eq!(param(b"-0x8000", false, 0, KeyType::Int2), expected);
    for text in [
        "_17", "17_", "1__7", "0x", "0x_", "0x__1", "0b2", "0o8", "0x-1",
    ] {
        let refusal = param(text.as_bytes(), false, 0, KeyType::Int8).expect_err(text);
        assert_eq!(refusal.code, "22P02", "{text}");
    }
    for text in [
        "0x8000000000000000",
        "0xffffffffffffffffffffffffffffffffffff",
    ] {
        let refusal = param(text.as_bytes(), false, 0, KeyType::Int8).expect_err(text);
        assert_eq!(refusal.code, "22003", "{text}");
    }
}

/// The short way may leave values to the long one, and never reads them otherwise.
#[test]
fn plain_integers_are_read_as_all_are() {
    let texts = [
        "0",
        "7",
        "-7",
        "007",
        "-0",
        "9999",
        "-9999",
        "99999",
        "999999999",
        "2147483648",
        "-2147483649",
        "999999999999999999",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1000000000000000000",
        "",
        "-",
        "--1",
        "+1",
        " 1",
        "1 ",
        "1_0",
        "0x1",
        "1.0",
        "1e2",
        "a",
        "\u{661}",
    ];
    let types = [
        KeyType::Int2,
        KeyType::Int4,
        KeyType::Int8,
        KeyType::Text,
        KeyType::Numeric,
    ];
    let oids = [
        0,
        oid::INT2,
        oid::INT4,
        oid::INT8,
        oid::TEXT,
        oid::UNKNOWN,
        oid::NUMERIC,
    ];
    let keeps = [
        None,
        Some(Keeps::Same),
        Some(Keeps::WithoutSpaces),
        Some(Keeps::Rounded { scale: 0 }),
    ];
    let mut plain = 0;
    let mut compare = |value: &ValueRef, column: &KeyPart, values: Values<'_>| {
        if let Some(integer) = plain_integer(value, column, values) {
            plain += 1;
            let read = read(value, column, values);
            assert_eq!(
                read,
                Ok(Reading::Is(Datum::Int(integer))),
                "{value:?} {column:?} {values:?}"
            );
        }
    };
    let columns = types
        .iter()
        .flat_map(|of| keeps.map(|insert| column(*of, insert)));
    for column in columns {
        for text in texts {
            let binary = [
                [0, 7].as_slice(),
                [255, 255, 255, 249].as_slice(),
                text.as_bytes(),
            ];
            let sent = binary
                .map(|value| (value, true))
                .into_iter()
                .chain([(text.as_bytes(), false)]);
            for ((value, binary), type_oid) in sent.flat_map(|sent| oids.map(|of| (sent, of))) {
                let params = [Param {
                    value: Some(value),
                    binary,
                    type_oid,
                }];
                let values = Values {
                    params: &params,
                    ..Values::default()
                };
                compare(&ValueRef::Param(0), &column, values);
            }
            for (kind, negative) in [
                (PieceKind::Integer, false),
                (PieceKind::Integer, true),
                (PieceKind::Number, false),
                (PieceKind::String, false),
            ] {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                if kind == PieceKind::Integer && (!digits || text.is_empty()) {
                    continue;
                }
                let pieces = [crate::shape::Piece {
                    kind,
                    range: 0..text.len(),
                }];
                let values = Values {
                    sql: text.as_bytes(),
                    pieces: &pieces,
                    params: &[],
                };
                compare(&ValueRef::Literal { piece: 0, negative }, &column, values);
            }
        }
    }
    assert!(plain > 500, "{plain}");
}

#[test]
fn wrong_values_are_refused_in_postgresqls_words() {
    let cases = [
        (
            param(b"abc", false, 0, KeyType::Int8),
            "22P02",
            "invalid input syntax for type bigint: \"abc\"",
        ),
        (
            param(b"", false, 0, KeyType::Int4),
            "22P02",
            "invalid input syntax for type integer: \"\"",
        ),
        (
            param(b"+-1", false, 0, KeyType::Int4),
            "22P02",
            "invalid input syntax for type integer: \"+-1\"",
        ),
        (
            param(b"70000", false, 0, KeyType::Int2),
            "22003",
            "value \"70000\" is out of range for type smallint",
        ),
        (
            param(b"1", false, 0, KeyType::Uuid),
            "22P02",
            "invalid input syntax for type uuid: \"1\"",
        ),
        (
            param(b"123", true, 0, KeyType::Int8),
            "22P03",
            "incorrect binary data format in bind parameter 1",
        ),
    ];
    for (result, code, message) in cases {
        let refusal = result.expect_err(message);
        assert_eq!((refusal.code, &*refusal.message), (code, message));
    }
}

#[test]
fn a_parameter_of_another_type_is_not_a_key() {
    let refusal = param(b"17", false, oid::NUMERIC, KeyType::Int8).expect_err("numeric");
    assert_eq!(refusal.code, "0A000");
}

#[test]
fn uuids_are_read_as_postgresql_reads_them() {
    let same = [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    ];
    for text in same {
        assert_eq!(uuid(text.as_bytes()), uuid(same[0].as_bytes()), "{text}");
        assert!(uuid(text.as_bytes()).is_some(), "{text}");
    }
    for text in [
        "",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
        "a-0eebc999c0b4ef8bb6d6bb9bd380a11",
    ] {
        assert_eq!(uuid(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn null_matches_nothing_and_cannot_be_inserted() {
    assert_eq!(
        read(
            &ValueRef::Null,
            &column(KeyType::Int8, None),
            Values::default()
        ),
        Ok(Reading::Null)
    );
    let keys = column(KeyType::Int8, Some(Keeps::Same));
    let refusal = read(&ValueRef::Null, &keys, Values::default()).expect_err("NULL");
    assert_eq!(
        (refusal.code, &*refusal.message),
        (
            "23502",
            "null value in column \"id\" of relation \"orders\" violates not-null constraint"
        )
    );
}

#[test]
fn doubled_quotes_are_undone() {
    assert_eq!(&*unquoted(b"'it''s'"), b"it's");
    assert_eq!(&*unquoted(b"''"), b"");
    assert_eq!(&*unquoted(b"''''"), b"'");
}

/// Tables with these keys on two shards, where rule 0 is by_country.
fn hinted(text: &str, keys: &[(&[KeyType], Placement)]) -> Result<ShardId, Refusal> {
    let mut catalog = Catalog::new(1, 2);
    for (at, (types, placement)) in keys.iter().enumerate() {
        let column = |key_type: &KeyType| KeyColumn {
            name: "k".into(),
            key_type: *key_type,
        };
        catalog.add_table(Table {
            schema: "public".into(),
            name: format!("t{at}"),
            class: TableClass::Sharded(ShardKey {
                columns: types.iter().map(column).collect(),
                placement: *placement,
            }),
            columns: vec![],
            kind: RelationKind::Table,
        });
    }
    shard_of_key(text, &catalog, &two_shards())
}

fn two_shards() -> Topology {
    let shard = |name: &str| ShardWeight {
        name: name.into(),
        weight: 1,
    };
    let countries = [(b"NO".to_vec(), ShardId(1))];
    let rule = Rule {
        name: "by_country".into(),
        mapping: Mapping::Texts(countries.into()),
        default: None,
    };
    Topology::new(vec![shard("a"), shard("b")], &[]).with_rules(vec![rule])
}

#[test]
fn hints_name_keys_of_every_kind() {
    let hash =
        |columns: &[(KeyType, &[u8])]| two_shards().owner(slot_of_row(columns, false).unwrap());
    let (int, text, date) = (KeyType::Int8, KeyType::Text, KeyType::Date);
    let list = Placement::List(RuleId(0));
    let integers = [KeyType::Int4, KeyType::Int8];
    let integers = integers
        .each_ref()
        .map(|one| (std::slice::from_ref(one), Placement::Hash));
    let large = "99999999999";
    assert_eq!(
        hinted(large, &integers),
        Ok(hash(&[(int, large.as_bytes())]))
    );
    let day = [(&[date][..], Placement::Hash)];
    assert_eq!(
        hinted("2026-11-28", &day),
        Ok(hash(&[(date, b"2026-11-28")]))
    );
    let pair = [(&[int, text][..], Placement::Hash)];
    assert_eq!(
        hinted("7, a", &pair),
        Ok(hash(&[(int, b"7"), (text, b"a")]))
    );
    let both = [(&[text][..], list), (&[int][..], Placement::Hash)];
    assert_eq!(hinted("by_country:NO", &both), Ok(ShardId(1)));
    for (text, keys) in [
        ("tomorrow", &day[..]),
        ("7", &pair),
        ("7,a,b", &pair),
        ("NO", &both),
        ("by_country:SE", &both),
        ("by_country:NO", &day),
        ("7", &[]),
    ] {
        let refusal = hinted(text, keys).expect_err(text);
        assert_eq!(refusal.code, "22023", "{text}");
    }
}
