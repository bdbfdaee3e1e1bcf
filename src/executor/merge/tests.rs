use bytes::{BufMut, Bytes, BytesMut};
use planner::merge::{
    Aggregate, AggregateFunction, Collation, Column, Group, GroupKey, MergePlan, SortKey,
};

use super::*;

mod properties;

const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT4: u32 = 23;
const INT2: u32 = 21;
const TEXT: u32 = 25;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const NUMERIC: u32 = 1700;
const JSON: u32 = 114;

const NO_CAP: usize = usize::MAX;

type TextRow = Vec<Option<String>>;

/// RowDescription of columns c0, c1 … in one format.
fn description(types: &[u32], format: i16) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(types.len() as u16);
    for (index, oid) in types.iter().enumerate() {
        body.put_slice(format!("c{index}\0").as_bytes());
        body.put_u32(0);
        body.put_i16(0);
        body.put_u32(*oid);
        body.put_i16(-1);
        body.put_i32(-1);
        body.put_i16(format);
    }
    body.to_vec()
}

/// One column's type OID, length and format.
fn typed(oid: u32, length: i16, format: i16) -> Vec<u8> {
    let mut body = description(&[oid], format);
    let at = body.len() - 8;
    body[at..at + 2].copy_from_slice(&length.to_be_bytes());
    body
}

#[test]
fn types_of_users_may_differ_in_number_where_values_do_not() {
    let merged = |one: [i64; 3], other: [i64; 3]| {
        let mut merger = Merger::new(&MergePlan::default(), 2, None, 0, Memory::new(usize::MAX));
        for (at, [oid, length, format]) in [one, other].into_iter().enumerate() {
            let body = typed(oid as u32, length as i16, format as i16);
            merger.row_description(at, &body)?;
        }
        Ok::<_, Error>(())
    };
    let (text, binary) = (0, 1);
    // An enum and an array of it: text, then binary.
    merged([16400, 4, text], [16500, 4, text]).unwrap();
    merged([16400, 4, binary], [16500, 4, binary]).unwrap();
    merged([16401, -1, text], [16501, -1, text]).unwrap();
    merged([16401, -1, binary], [16401, -1, binary]).unwrap();
    let error = merged([16401, -1, binary], [16501, -1, binary]).unwrap_err();
    assert!(error.message.contains("binary format"), "{error:?}");
    for (one, other) in [
        ([23, 4, text], [20, 8, text]),
        ([16400, 4, text], [25, -1, text]),
        ([16400, 4, text], [16400, 4, binary]),
    ] {
        let error = merged(one, other).unwrap_err();
        assert!(error.message.contains("drifted apart"), "{error:?}");
    }
}

fn row(values: &[Option<&str>]) -> Bytes {
    let owned: Vec<_> = values
        .iter()
        .map(|v| v.map(|text| text.as_bytes().to_vec()))
        .collect();
    row::join(&owned)
}

/// A row in short: columns separated by spaces, `~` is NULL.
fn short(line: &str) -> Bytes {
    let values: Vec<_> = line
        .split(' ')
        .map(|word| (word != "~").then_some(word))
        .collect();
    row(&values)
}

fn read_frame(frame: &Bytes) -> TextRow {
    assert_eq!(frame[0], b'D');
    let length = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
    assert_eq!(length + 1, frame.len());
    let body = &frame[5..];
    let columns = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let mut fields = Vec::new();
    row::split(body, columns, &mut fields).unwrap();
    fields
        .iter()
        .map(|f| row::value(body, f).map(|v| String::from_utf8(v.to_vec()).unwrap()))
        .collect()
}

fn shorten(row: &TextRow) -> String {
    row.iter()
        .map(|v| v.as_deref().unwrap_or("~"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Feeds what the merger asks for, shard by shard, until it is done.
fn drive(merger: &mut Merger, shards: Vec<Vec<Bytes>>) -> Result<Vec<TextRow>> {
    let mut inputs: Vec<_> = shards.into_iter().map(Vec::into_iter).collect();
    let mut out = Vec::new();
    loop {
        match merger.step()? {
            Step::Row(frame) => out.push(read_frame(&frame)),
            Step::Need(shard) => match inputs[shard].next() {
                Some(row) => merger.push(shard, row)?,
                None => merger.end(shard),
            },
            Step::Done => return Ok(out),
        }
    }
}

struct Case<'a> {
    plan: MergePlan,
    types: &'a [u32],
    limit: Option<u64>,
    offset: u64,
    memory_cap: usize,
}

impl<'a> Case<'a> {
    fn new(plan: MergePlan, types: &'a [u32]) -> Self {
        Self {
            plan,
            types,
            limit: None,
            offset: 0,
            memory_cap: NO_CAP,
        }
    }

    fn merger(&self, shards: usize) -> Result<Merger> {
        let mut merger = Merger::new(
            &self.plan,
            shards,
            self.limit,
            self.offset,
            Memory::new(self.memory_cap),
        );
        for shard in 0..shards {
            let frame = merger.row_description(shard, &description(self.types, 0))?;
            assert_eq!(frame.is_some(), shard == 0);
        }
        Ok(merger)
    }

    fn run(&self, shards: &[&[&str]]) -> Result<Vec<String>> {
        let input = shards
            .iter()
            .map(|rows| rows.iter().map(|line| short(line)).collect())
            .collect();
        let rows = drive(&mut self.merger(shards.len())?, input)?;
        Ok(rows.iter().map(shorten).collect())
    }
}

fn ascending(column: usize) -> SortKey {
    SortKey {
        column: Column::FromStart(column),
        descending: false,
        nulls_first: false,
        collation: Collation::Bytewise,
    }
}

fn ordered(order: Vec<SortKey>, shards_sorted: bool) -> MergePlan {
    MergePlan {
        order,
        shards_sorted,
        ..MergePlan::default()
    }
}

fn grouped(keys: &[usize], aggregates: &[(usize, AggregateFunction)]) -> MergePlan {
    let key = |column: &usize| GroupKey {
        column: Column::FromStart(*column),
        collation: Collation::Unknown,
    };
    let aggregate = |(column, function): &(usize, AggregateFunction)| Aggregate {
        column: Column::FromStart(*column),
        function: *function,
    };
    MergePlan {
        group: Some(Group {
            keys: keys.iter().map(key).collect(),
            aggregates: aggregates.iter().map(aggregate).collect(),
        }),
        ..MergePlan::default()
    }
}

fn average(column: usize) -> (usize, AggregateFunction) {
    let function = AggregateFunction::Avg {
        sum: Column::Hidden(0),
        count: Column::Hidden(1),
    };
    (column, function)
}

#[test]
fn concat_keeps_every_row_and_obeys_limit_and_offset() {
    let mut case = Case::new(MergePlan::default(), &[INT4]);
    let shards: [&[&str]; 3] = [&["1", "2"], &[], &["3", "4"]];
    assert_eq!(case.run(&shards).unwrap(), ["1", "2", "3", "4"]);
    case.offset = 1;
    case.limit = Some(2);
    assert_eq!(case.run(&shards).unwrap(), ["2", "3"]);
    case.limit = Some(0);
    assert!(case.run(&shards).unwrap().is_empty());
    case.limit = None;
    case.offset = 10;
    assert!(case.run(&shards).unwrap().is_empty());
}

#[test]
fn concat_gives_rows_of_any_shard_at_once() {
    let mut merger = Case::new(MergePlan::default(), &[INT4]).merger(2).unwrap();
    assert_eq!(merger.step().unwrap(), Step::Need(0));
    merger.push(1, short("7")).unwrap();
    assert!(matches!(merger.step().unwrap(), Step::Row(_)));
    assert_eq!(merger.rows_out(), 1);
}

#[test]
fn merge_is_stable_and_places_nulls() {
    let case = Case::new(ordered(vec![ascending(0)], true), &[INT4, TEXT]);
    let merged = case.run(&[&["1 a", "3 a", "~ a"], &["1 b", "2 b", "~ b"]]);
    assert_eq!(merged.unwrap(), ["1 a", "1 b", "2 b", "3 a", "~ a", "~ b"]);

    let key = SortKey {
        descending: true,
        nulls_first: true,
        ..ascending(0)
    };
    let case = Case::new(ordered(vec![key], true), &[INT4, TEXT]);
    let merged = case.run(&[&["~ a", "3 a", "1 a"], &["2 b", "1 b"]]);
    assert_eq!(merged.unwrap(), ["~ a", "3 a", "2 b", "1 a", "1 b"]);
}

#[test]
fn sorts_by_hidden_columns_and_cuts_them_off() {
    let key = SortKey {
        column: Column::Hidden(0),
        ..ascending(0)
    };
    let mut plan = ordered(vec![key], true);
    plan.hidden = 1;
    let case = Case::new(plan, &[TEXT, NUMERIC]);
    let merged = case.run(&[&["a 9.5", "b 10"], &["c 9.50", "d 9.75"]]);
    assert_eq!(merged.unwrap(), ["a", "c", "d", "b"]);

    let mut merger = Merger::new(&case.plan, 1, None, 0, Memory::new(NO_CAP));
    let frame = merger.row_description(0, &description(&[TEXT, NUMERIC], 0));
    let frame = frame.unwrap().unwrap();
    assert_eq!(frame[0], b'T');
    assert_eq!(frame[1..5], (frame.len() as u32 - 1).to_be_bytes());
    assert_eq!(frame[5..], description(&[TEXT], 0));
}

#[test]
fn collects_and_sorts_what_the_shards_did_not_sort() {
    let mut case = Case::new(ordered(vec![ascending(0)], false), &[INT4]);
    let shards: [&[&str]; 2] = [&["10", "2", "~"], &["9", "-1"]];
    assert_eq!(case.run(&shards).unwrap(), ["-1", "2", "9", "10", "~"]);
    case.memory_cap = 100;
    let error = case.run(&shards).unwrap_err();
    assert_eq!(&*error.code, "53200");
    assert!(error.hint.as_deref().unwrap().contains("merge_memory_mib"));
}

#[test]
fn a_shard_out_of_order_is_an_error() {
    let plan = ordered(vec![ascending(0)], true);
    let case = Case::new(plan, &[INT4]);
    let error = case.run(&[&["1", "3", "2"], &["9"]]).unwrap_err();
    assert_eq!((&*error.code, error.fault), ("XX000", Fault::Operator));
    // The row before was already taken.
    let mut merger = case.merger(1).unwrap();
    merger.push(0, short("3")).unwrap();
    assert!(matches!(merger.step().unwrap(), Step::Row(_)));
    assert!(merger.push(0, short("2")).is_err());
}

#[test]
fn groups_count_against_the_memory_cap() {
    let function = AggregateFunction::Max(Collation::Bytewise);
    let mut case = Case::new(grouped(&[0], &[(1, function)]), &[INT4, TEXT]);
    case.memory_cap = 1000;
    let many: Vec<String> = (0..100).map(|n| format!("{n} x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(case.run(&[&many]).unwrap_err().code, "53200");
    assert_eq!(case.run(&[&["1 x"; 100]]).unwrap(), ["1 x"]);
    let long = format!("1 {}", "y".repeat(600));
    assert_eq!(case.run(&[&["1 x", &long]]).unwrap_err().code, "53200");
}

#[test]
fn full_queues_ask_for_a_pause() {
    let plan = ordered(vec![ascending(0)], true);
    let mut merger = Case::new(plan, &[INT4]).merger(2).unwrap();
    let mut pushed = 0;
    while !merger.is_full(0) {
        merger.push(0, short("1")).unwrap();
        pushed += 1;
    }
    assert_eq!(pushed, HIGH_WATER_ROWS);
    assert_eq!(merger.step().unwrap(), Step::Need(1));
    merger.end(1);
    assert!(matches!(merger.step().unwrap(), Step::Row(_)));
    assert!(!merger.is_full(0));
}

#[test]
fn a_reached_limit_needs_no_more_rows() {
    let mut case = Case::new(ordered(vec![ascending(0)], true), &[INT4]);
    case.limit = Some(1);
    let mut merger = case.merger(2).unwrap();
    merger.push(0, short("1")).unwrap();
    merger.push(1, short("2")).unwrap();
    assert!(!merger.limit_reached());
    assert!(matches!(merger.step().unwrap(), Step::Row(_)));
    assert!(merger.limit_reached());
    assert_eq!(merger.step().unwrap(), Step::Done);
    merger.push(0, short("5")).unwrap();
    assert_eq!(merger.step().unwrap(), Step::Done);
}

#[test]
fn groups_across_shards() {
    use AggregateFunction::{BoolAnd, BoolOr, Count, Max, Min, Sum};
    let bytewise = Collation::Bytewise;
    let aggregates = [
        (1, Count),
        (2, Sum),
        (3, Min(bytewise)),
        (4, Max(bytewise)),
        (5, BoolAnd),
        (6, BoolOr),
    ];
    let case = Case::new(
        grouped(&[0], &aggregates),
        &[NUMERIC, INT8, NUMERIC, TEXT, TEXT, BOOL, BOOL],
    );
    let groups = case.run(&[
        &["1.0 2 0.5 b b t f", "~ 1 ~ ~ ~ ~ ~"],
        &["1.00 3 0.25 a c f f", "~ 4 7 x x t t", "2 1 1 q q t t"],
    ]);
    assert_eq!(
        groups.unwrap(),
        ["1.0 5 0.75 a c f f", "~ 5 7 x x t t", "2 1 1 q q t t"]
    );
}

#[test]
fn bits_of_all_shards_are_combined() {
    use planner::merge::BitOperator::{And, Or, Xor};
    let bits = [
        (0, AggregateFunction::Bits(And)),
        (1, AggregateFunction::Bits(Or)),
        (2, AggregateFunction::Bits(Xor)),
    ];
    for oid in [INT2, INT4, INT8] {
        let types = [oid; 3];
        let case = Case::new(grouped(&[], &bits), &types);
        let shards: [&[&str]; 3] = [&["-2 8 5"], &["~ ~ ~"], &["7 -32768 -3"]];
        assert_eq!(case.run(&shards).unwrap(), ["6 -32760 -8"], "{oid}");
        assert_eq!(case.run(&[&["~ ~ ~"], &["~ ~ ~"]]).unwrap(), ["~ ~ ~"]);
    }
    let strings = Case::new(grouped(&[], &bits), &[1560, 1560, 1560]);
    assert_eq!(strings.run(&[&[]]).unwrap_err().code, "0A000");
}

#[test]
fn sorts_and_limits_groups_by_their_whole_aggregates() {
    let mut plan = grouped(&[0], &[(1, AggregateFunction::Count)]);
    plan.order = vec![SortKey {
        descending: true,
        ..ascending(1)
    }];
    let mut case = Case::new(plan, &[TEXT, INT8]);
    case.limit = Some(2);
    let groups = case.run(&[&["a 5", "b 4", "c 1"], &["c 9", "b 2"]]);
    assert_eq!(groups.unwrap(), ["c 10", "b 6"]);
}

#[test]
fn without_keys_there_is_exactly_one_row() {
    use AggregateFunction::{Count, Sum};
    let case = Case::new(grouped(&[], &[(0, Count), (1, Sum)]), &[INT8, INT8]);
    assert_eq!(case.run(&[&["2 10"], &["0 ~"]]).unwrap(), ["2 10"]);
    assert_eq!(case.run(&[&["0 ~"], &["0 ~"]]).unwrap(), ["0 ~"]);
    assert_eq!(case.run(&[&[], &[]]).unwrap(), ["0 ~"]);
}

#[test]
fn averages_divide_the_whole_sum_by_the_whole_count() {
    let mut plan = grouped(&[], &[average(0)]);
    plan.hidden = 2;
    let case = |types| Case::new(plan.clone(), types);
    let integers = case(&[NUMERIC, INT8, INT8]);
    assert_eq!(
        integers
            .run(&[&["1.5 3 2"], &["~ ~ 0"], &["2 2 1"]])
            .unwrap(),
        ["1.6666666666666667"]
    );
    assert_eq!(integers.run(&[&["~ ~ 0"], &["~ ~ 0"]]).unwrap(), ["~"]);
    let numerics = case(&[NUMERIC, NUMERIC, INT8]);
    assert_eq!(
        numerics.run(&[&["0 0.10 1"], &["0 NaN 1"]]).unwrap(),
        ["NaN"]
    );
    let floats = case(&[FLOAT8, FLOAT8, INT8]);
    assert_eq!(
        floats.run(&[&["0 0.1 1"], &["0 0.2 2"]]).unwrap(),
        ["0.10000000000000002"]
    );
    // The sum of float4 is rounded more coarsely than avg(float4) may be.
    let coarse = case(&[FLOAT8, FLOAT4, INT8]).run(&[&[]]).unwrap_err();
    assert_eq!(coarse.code, "0A000");
}

#[test]
fn sums_out_of_range_are_errors() {
    let case = |oid| -> Vec<u32> { vec![oid] };
    for (oid, part) in [
        (INT8, "9223372036854775807"),
        (FLOAT8, "1.7976931348623157e+308"),
        (FLOAT4, "3.4028235e+38"),
    ] {
        let types = case(oid);
        let case = Case::new(grouped(&[], &[(0, AggregateFunction::Sum)]), &types);
        let error = case.run(&[&[part], &[part]]).unwrap_err();
        assert_eq!(&*error.code, "22003", "{part}");
    }
}

#[test]
fn refuses_before_any_row() {
    let plans = [
        (ordered(vec![ascending(0)], true), JSON),
        (grouped(&[0], &[]), JSON),
        (grouped(&[], &[(0, AggregateFunction::Sum)]), TEXT),
        (grouped(&[], &[(0, AggregateFunction::BoolAnd)]), TEXT),
        (
            grouped(&[], &[(0, AggregateFunction::Min(Collation::Other))]),
            TEXT,
        ),
    ];
    for (plan, oid) in plans {
        let error = Case::new(plan, &[oid]).merger(1).unwrap_err();
        assert_eq!((&*error.code, error.hint.is_some()), ("0A000", true));
    }
}

#[test]
fn shards_have_to_agree_on_columns() {
    for other in [&[INT4][..], &[INT4, INT8]] {
        let mut merger = Merger::new(&MergePlan::default(), 2, None, 0, Memory::new(NO_CAP));
        merger
            .row_description(0, &description(&[INT4, TEXT], 0))
            .unwrap();
        let error = merger
            .row_description(1, &description(other, 0))
            .unwrap_err();
        assert_eq!((&*error.code, error.fault), ("0A000", Fault::Operator));
    }
}

#[test]
fn binary_results_are_merged_and_written_in_binary() {
    let mut plan = grouped(&[], &[average(0)]);
    plan.hidden = 2;
    let mut merger = Merger::new(&plan, 2, None, 0, Memory::new(NO_CAP));
    let described = description(&[NUMERIC, INT8, INT8], 0);
    for shard in 0..2 {
        merger
            .row_description_with_formats(shard, &described, &[1])
            .unwrap();
        let parts = [1i64, 1].map(|part| Some(part.to_be_bytes().to_vec()));
        let values = [None, parts[0].clone(), parts[1].clone()];
        merger.push(shard, row::join(&values)).unwrap();
        merger.end(shard);
    }
    let Step::Row(frame) = merger.step().unwrap() else {
        panic!("no row");
    };
    // 1.00000000000000000000: one digit 1 of weight 0, scale 20.
    let average = [0, 1, 0, 0, 0, 0, 0, 20, 0, 1];
    assert_eq!(frame[5..], row::join(&[Some(average.to_vec())]));
}

#[test]
fn formats_of_bind_reach_the_description() {
    assert_eq!(shard_formats(&[], 2), [] as [i16; 0]);
    assert_eq!(shard_formats(&[1], 2), [1]);
    assert_eq!(shard_formats(&[1, 0], 1), [1, 0, 0]);

    let plan = MergePlan {
        hidden: 1,
        ..MergePlan::default()
    };
    let body = description(&[INT4, INT4, INT4], 0);
    let mut merger = Merger::new(&plan, 1, None, 0, Memory::new(NO_CAP));
    let frame = merger.row_description_with_formats(0, &body, &[1, 1]);
    assert_eq!(frame.unwrap().unwrap()[5..], description(&[INT4, INT4], 1));
    let error = merger
        .row_description_with_formats(0, &body, &[1, 1, 1, 1])
        .unwrap_err();
    assert_eq!(&*error.code, "08P01");
}

#[test]
fn malformed_rows_are_the_servers_fault() {
    let good = short("1");
    let mut long = good.to_vec();
    long.push(0);
    for body in [&good[..good.len() - 1], &long, b"", b"\0", &short("1 2")] {
        let mut merger = Case::new(MergePlan::default(), &[INT4]).merger(1).unwrap();
        let error = merger.push(0, Bytes::copy_from_slice(body)).unwrap_err();
        assert_eq!((&*error.code, error.fault), ("08P01", Fault::Server));
    }
    let mut early = Merger::new(&MergePlan::default(), 1, None, 0, Memory::new(NO_CAP));
    assert!(early.push(0, good.clone()).is_err());
    let mut late = Case::new(MergePlan::default(), &[INT4]).merger(1).unwrap();
    late.end(0);
    assert!(late.push(0, good).is_err());
}

#[test]
fn a_plan_that_does_not_fit_the_answer_is_a_defect() {
    let plan = ordered(vec![ascending(3)], true);
    let error = Case::new(plan, &[INT4]).merger(1).unwrap_err();
    assert_eq!((&*error.code, error.fault), ("XX000", Fault::Ringway));
}
