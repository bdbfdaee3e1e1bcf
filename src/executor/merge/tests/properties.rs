//! The merge against the same thing done to all rows at once, and against arbitrary bytes.

use proptest::prelude::*;

use super::*;

fn nullable_int() -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(0.8, -5i64..5)
}

fn text(value: Option<i64>) -> Option<String> {
    value.map(|v| v.to_string())
}

type IntRow = (Option<i64>, Option<i64>);

/// What ORDER BY means, written once more: NULL as a value beyond all others.
fn naive_rank(value: Option<i64>, key: &SortKey) -> (bool, i64) {
    let null_rank = value.is_none() != key.nulls_first;
    let signed = if key.descending { -1 } else { 1 };
    (null_rank, value.map_or(0, |v| v * signed))
}

proptest! {
    #[test]
    fn merging_and_collecting_equal_sorting_everything(
        shards in prop::collection::vec(
            prop::collection::vec((nullable_int(), nullable_int()), 0..12), 1..5),
        directions: [(bool, bool); 2],
        sorted: bool,
        limit in prop::option::of(0u64..20),
        offset in 0u64..5,
    ) {
        let mut shards: Vec<Vec<IntRow>> = shards;
        let keys: Vec<SortKey> = directions.iter().enumerate().map(|(column, (down, first))| SortKey {
            descending: *down,
            nulls_first: *first,
            ..ascending(column)
        }).collect();
        let rank = |row: &IntRow| (naive_rank(row.0, &keys[0]), naive_rank(row.1, &keys[1]));
        let mut expected: Vec<IntRow> = shards.concat();
        expected.sort_by_key(rank);
        let expected: Vec<TextRow> = expected
            .into_iter()
            .skip(offset as usize)
            .take(limit.map_or(usize::MAX, |l| l as usize))
            .map(|(a, b)| vec![text(a), text(b)])
            .collect();
        if sorted {
            shards.iter_mut().for_each(|rows| rows.sort_by_key(rank));
        }
        let input = shards
            .iter()
            .map(|rows| rows.iter().map(|(a, b)| row(&[text(*a).as_deref(), text(*b).as_deref()])).collect())
            .collect();
        let mut case = Case::new(ordered(keys.clone(), sorted), &[INT4, INT4]);
        case.limit = limit;
        case.offset = offset;
        let mut merger = case.merger(shards.len()).unwrap();
        prop_assert_eq!(drive(&mut merger, input).unwrap(), expected);
        prop_assert_eq!(merger.memory.used == 0 || !sorted || limit.is_some(), true);
    }

    #[test]
    fn partial_aggregates_equal_aggregates_of_everything(
        shards in prop::collection::vec(
            prop::collection::vec((0i64..4, nullable_int()), 0..12), 1..5),
    ) {
        use AggregateFunction::{Count, Max, Min, Sum};
        let collation = Collation::Other;
        let mut plan = grouped(
            &[0],
            &[(1, Count), (2, Sum), (3, Min(collation)), (4, Max(collation)), average(5)],
        );
        plan.hidden = 2;
        plan.order = vec![ascending(0)];
        let types = [INT8, INT8, INT8, INT8, INT8, NUMERIC, INT8, INT8];
        let aggregate = |rows: &[(i64, Option<i64>)], group: i64| -> Option<TextRow> {
            let rows: Vec<_> = rows.iter().filter(|row| row.0 == group).collect();
            let values: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
            let sum = (!values.is_empty()).then(|| values.iter().sum::<i64>());
            (!rows.is_empty()).then(|| vec![
                text(Some(group)),
                text(Some(values.len() as i64)),
                text(sum),
                text(values.iter().min().copied()),
                text(values.iter().max().copied()),
                sum.map(|sum| naive_average(sum, values.len() as i64)),
                text(sum),
                text(Some(values.len() as i64)),
            ])
        };
        let input = shards
            .iter()
            .map(|rows| (0..4)
                .filter_map(|group| aggregate(rows, group))
                .map(|values| row(&values.iter().map(|v| v.as_deref()).collect::<Vec<_>>()))
                .collect())
            .collect();
        let all = shards.concat();
        let expected: Vec<TextRow> = (0..4)
            .filter_map(|group| aggregate(&all, group))
            .map(|row| row[..6].to_vec())
            .collect();
        let mut merger = Case::new(plan, &types).merger(shards.len()).unwrap();
        prop_assert_eq!(drive(&mut merger, input).unwrap(), expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        described: Vec<u8>,
        body: Vec<u8>,
        values: [Option<Vec<u8>>; 2],
        types in prop::array::uniform2(prop::sample::select(vec![
            BOOL, 17, 18, INT8, TEXT, FLOAT4, FLOAT8, NUMERIC, 1042, 1082, 1114, 1184, 1186, 1266, 2950,
        ])),
        format in 0i16..2,
        group: bool,
    ) {
        let plan = if group {
            let function = AggregateFunction::Max(Collation::Bytewise);
            let mut plan = grouped(&[0], &[(1, function)]);
            plan.order = vec![ascending(1)];
            plan
        } else {
            ordered(vec![ascending(0), ascending(1)], true)
        };
        let mut merger = Merger::new(&plan, 1, None, 0, Memory::new(NO_CAP));
        let _ = merger.row_description(0, &described);
        let _ = merger.push(0, body.clone().into());
        let mut merger = Merger::new(&plan, 1, None, 0, Memory::new(NO_CAP));
        if merger.row_description(0, &description(&types, format)).is_ok() {
            let _ = merger.push(0, body.into());
            let _ = merger.push(0, row::join(&values));
            merger.end(0);
            let _ = merger.step();
        }
    }
}

/// Rounds to 16 places or more as PostgreSQL does for quotients of small integers: 16 digits
/// after the point from 1 on, 20 below.
fn naive_average(sum: i64, count: i64) -> String {
    let places = if sum.abs() <= count { 20 } else { 16 };
    let scaled = i128::from(sum.abs()) * 10i128.pow(places);
    let count = i128::from(count);
    let rounded = (2 * scaled + count) / (2 * count);
    let sign = if sum < 0 { "-" } else { "" };
    let one = 10i128.pow(places);
    let width = places as usize;
    format!("{sign}{}.{:0width$}", rounded / one, rounded % one)
}
