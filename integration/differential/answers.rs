//! When two answers are the same: all rows, in order as far as ORDER BY fixes it.

use ringway::demo::answer::{Answer, Row};

use super::generate::{Check, Ty};

/// OIDs of types.
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const NUMERIC: u32 = 1700;

/// The answer without OIDs of types that are not built in, since every database has its own, and
/// with one NaN in binary format, as PostgreSQL tells none from another.
pub fn comparable(answer: &Answer) -> Answer {
    const FIRST_NORMAL_OID: u32 = 16384;
    let Answer::Rows {
        mut columns,
        mut rows,
    } = answer.clone()
    else {
        return answer.clone();
    };
    for (at, (_, type_oid)) in columns.iter_mut().enumerate() {
        if *type_oid >= FIRST_NORMAL_OID {
            *type_oid = 0;
        }
        if *type_oid == FLOAT8 {
            for value in rows.iter_mut().filter_map(|row| row[at].as_mut()) {
                let number = value.as_slice().try_into().map(f64::from_be_bytes);
                if number.is_ok_and(f64::is_nan) {
                    *value = f64::NAN.to_be_bytes().into();
                }
            }
        }
    }
    Answer::Rows { columns, rows }
}

/// An answer with all its rows, shortened.
pub fn full(answer: &Answer) -> String {
    let Answer::Rows { columns, rows } = answer else {
        return answer.summary();
    };
    let value = |value: &Option<Vec<u8>>| match value {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "NULL".to_owned(),
    };
    let rows: Vec<String> = rows
        .iter()
        .map(|row| row.iter().map(value).collect::<Vec<_>>().join(","))
        .collect();
    let text = format!("{} rows {columns:?} {}", rows.len(), rows.join(";"));
    text.escape_debug().take(400).collect()
}

/// How the two answers differ in what is fixed of them; `None` if they do not.
pub fn difference(got: &Answer, wanted: &Answer, check: &Check) -> Option<String> {
    let alike = match (comparable(got), comparable(wanted)) {
        (
            Answer::Failed { code, message, .. },
            Answer::Failed {
                code: wanted_code,
                message: wanted_message,
                ..
            },
        ) => code == wanted_code && message == wanted_message,
        (
            Answer::Rows { columns, rows },
            Answer::Rows {
                columns: wanted_columns,
                rows: wanted_rows,
            },
        ) => {
            let types: Vec<u32> = columns.iter().map(|(_, oid)| *oid).collect();
            columns == wanted_columns && same_rows(&rows, &wanted_rows, &types, check)
        }
        (got, wanted) => got.unordered() == wanted.unordered(),
    };
    (!alike).then(|| format!("ringway: {}\n  plain: {}", full(got), full(wanted)))
}

fn same_rows(got: &[Row], wanted: &[Row], oids: &[u32], check: &Check) -> bool {
    let plain = |row: &Row| -> Row {
        let values = row.iter().enumerate();
        values
            .map(|(at, value)| {
                value
                    .as_deref()
                    .map(|v| canonical(v, check.types.get(at), oids[at]))
            })
            .collect()
    };
    let in_order = |rows: &[Row]| -> Vec<Row> {
        let fixed = |row: &Row| check.order.iter().map(|at| row[*at].clone()).collect();
        rows.iter().map(plain).map(|row| fixed(&row)).collect()
    };
    let multiset = |rows: &[Row]| -> Vec<Row> {
        let mut rows: Vec<Row> = if check.loose {
            rows.iter().map(plain).collect()
        } else {
            rows.to_vec()
        };
        rows.sort();
        rows
    };
    got.len() == wanted.len()
        && in_order(got) == in_order(wanted)
        && (check.limited || multiset(got) == multiset(wanted))
}

/// A value in a form that equal values share; in binary format where its type's OID is known.
fn canonical(value: &[u8], ty: Option<&Ty>, oid: u32) -> Vec<u8> {
    match oid {
        0 => {}
        FLOAT4 | FLOAT8 if value[0] == 0x80 && value[1..].iter().all(|byte| *byte == 0) => {
            return vec![0; value.len()];
        }
        // The scale that is shown.
        NUMERIC => return [&value[..6], &value[8..]].concat(),
        _ if matches!(ty, Some(Ty::Interval | Ty::Loose(_))) => return Vec::new(),
        _ => return value.to_vec(),
    }
    match (ty, std::str::from_utf8(value)) {
        (Some(Ty::Interval | Ty::Loose(_)), _) => Vec::new(),
        (Some(Ty::Num | Ty::Float), Ok("-0")) => b"0".to_vec(),
        (Some(Ty::Num), Ok(text)) if text.contains('.') => {
            text.trim_end_matches('0').trim_end_matches('.').into()
        }
        _ => value.to_vec(),
    }
}
