//! GROUP BY over all shards: equal keys make one group, partial aggregates make one whole.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytes::Bytes;
use planner::merge::{
    Aggregate, AggregateFunction, BitOperator, Collation, Column, Group, GroupKey,
};

use super::Columns;
use super::number::{Number, NumberType};
use super::row::{self, ColumnInfo, Field, Format, malformed};
use super::value::{Decoder, Key, Kind};
use crate::error::{Error, Fault, Result};

/// What a group's states and its entry in the map cost beside their bytes, estimated.
const GROUP_OVERHEAD: usize = 64;
const STATE_OVERHEAD: usize = 48;

/// The groups seen so far.
#[derive(Debug)]
pub(super) struct Groups {
    keys: Vec<(usize, Decoder)>,
    index: HashMap<Box<[Option<Key>]>, usize>,
    /// Of each group the first row, which gives the columns that are not aggregated.
    first_rows: Vec<Option<Box<[u8]>>>,
    aggregates: Vec<Accumulator>,
    columns: usize,
}

impl Groups {
    /// # Errors
    /// 0A000 for types that cannot be grouped or aggregated here.
    pub fn new(group: &Group, columns: &Columns) -> Result<Self> {
        let key = |key: &GroupKey| {
            let column = columns.index(key.column)?;
            let decoder = Decoder::for_group(columns.info(column), key.collation)?;
            Ok((column, decoder))
        };
        let mut groups = Self {
            keys: group.keys.iter().map(key).collect::<Result<_>>()?,
            index: HashMap::new(),
            first_rows: Vec::new(),
            aggregates: group
                .aggregates
                .iter()
                .map(|aggregate| Accumulator::new(aggregate, columns))
                .collect::<Result<_>>()?,
            columns: columns.len(),
        };
        if groups.keys.is_empty() {
            // Without keys there is one group even if there is no row.
            groups.create(Box::default());
        }
        Ok(groups)
    }

    /// Adds a shard's row and returns the bytes that it made the groups grow by, estimated.
    ///
    /// # Errors
    /// 08P01 and 0A000 for unreadable values, 22003 for sums out of range.
    pub fn add(&mut self, body: &[u8], fields: &[Field]) -> Result<usize> {
        let key = self
            .keys
            .iter()
            .map(|(column, decoder)| decoder.nullable_key(row::value(body, &fields[*column])))
            .collect::<Result<Box<[_]>>>()?;
        let (group, mut grown) = match self.index.get(&key) {
            Some(group) => (*group, 0),
            None => {
                let size = key.iter().flatten().map(Key::heap_size).sum::<usize>()
                    + size_of_val(&*key)
                    + GROUP_OVERHEAD
                    + STATE_OVERHEAD * self.aggregates.len();
                (self.create(key), size)
            }
        };
        let first_row = &mut self.first_rows[group];
        if first_row.is_none() {
            *first_row = Some(body.into());
            grown += body.len();
        }
        for aggregate in &mut self.aggregates {
            grown += aggregate.add(group, body, fields)?;
        }
        Ok(grown)
    }

    /// The merged rows, hidden columns included, in the order in which groups were first seen.
    ///
    /// # Errors
    /// 22003 for results out of range.
    pub fn finish(self) -> Result<Vec<Bytes>> {
        let mut fields = Vec::new();
        let mut rows = Vec::with_capacity(self.first_rows.len());
        for (group, first_row) in self.first_rows.iter().enumerate() {
            let mut values: Vec<Option<Vec<u8>>> = match first_row {
                Some(body) => {
                    row::split(body, self.columns, &mut fields)?;
                    let owned = |field| row::value(body, field).map(<[u8]>::to_vec);
                    fields.iter().map(owned).collect()
                }
                None => vec![None; self.columns],
            };
            for aggregate in &self.aggregates {
                values[aggregate.output] = aggregate.finish(group)?;
            }
            rows.push(row::join(&values));
        }
        Ok(rows)
    }

    fn create(&mut self, key: Box<[Option<Key>]>) -> usize {
        let group = self.first_rows.len();
        self.index.insert(key, group);
        self.first_rows.push(None);
        for aggregate in &mut self.aggregates {
            aggregate.states.grow();
        }
        group
    }
}

/// One aggregate's states, one for each group.
#[derive(Debug)]
struct Accumulator {
    output: usize,
    output_format: Format,
    states: States,
}

#[derive(Debug)]
enum States {
    Sum {
        part: NumberColumn,
        /// The result of no rows: 0 for count, NULL for sum.
        empty: Option<Number>,
        sums: Vec<Option<Number>>,
    },
    Average {
        sum: NumberColumn,
        count: NumberColumn,
        states: Vec<(Option<Number>, u64)>,
    },
    Extreme {
        column: usize,
        decoder: Decoder,
        /// How a value compares to the one that it replaces.
        replaces: Ordering,
        best: Vec<Option<(Key, Box<[u8]>)>>,
    },
    Bool {
        column: usize,
        decoder: Decoder,
        /// The value that decides the result: false for bool_and, true for bool_or.
        decisive: bool,
        values: Vec<Option<bool>>,
    },
    Bits {
        column: usize,
        decoder: Decoder,
        width: IntegerWidth,
        operator: BitOperator,
        values: Vec<Option<i64>>,
    },
}

/// Of smallint, integer and bigint. Bits are combined alike in all three: the sign fills the rest.
#[derive(Debug, Clone, Copy)]
enum IntegerWidth {
    Two,
    Four,
    Eight,
}

impl IntegerWidth {
    /// Of the type with this OID.
    fn of(type_oid: u32) -> Option<Self> {
        match type_oid {
            20 => Some(Self::Eight),
            21 => Some(Self::Two),
            23 => Some(Self::Four),
            _ => None,
        }
    }

    fn write(self, value: i64, format: Format) -> Vec<u8> {
        match (format, self) {
            (Format::Text, _) => value.to_string().into_bytes(),
            (Format::Binary, Self::Two) => (value as i16).to_be_bytes().to_vec(),
            (Format::Binary, Self::Four) => (value as i32).to_be_bytes().to_vec(),
            (Format::Binary, Self::Eight) => value.to_be_bytes().to_vec(),
        }
    }
}

/// Where numbers of one type are read.
#[derive(Debug)]
struct NumberColumn {
    column: usize,
    number_type: NumberType,
    format: Format,
}

impl NumberColumn {
    fn new(
        function: &'static str,
        column: Column,
        columns: &Columns,
        allowed: &[NumberType],
    ) -> Result<Self> {
        let column = columns.index(column)?;
        let info = columns.info(column);
        let number_type = NumberType::of(info)
            .filter(|number_type| allowed.contains(number_type))
            .ok_or_else(|| unsupported(function, info))?;
        Ok(Self {
            column,
            number_type,
            format: info.format,
        })
    }

    fn read(&self, body: &[u8], fields: &[Field]) -> Result<Option<Number>> {
        row::value(body, &fields[self.column])
            .map(|bytes| Number::read(self.number_type, self.format, bytes))
            .transpose()
    }

    fn read_count(&self, body: &[u8], fields: &[Field]) -> Result<u64> {
        match self.read(body, fields)? {
            None => Ok(0),
            Some(Number::Int8(count)) => {
                u64::try_from(count).map_err(|_| malformed("a negative count"))
            }
            Some(
                Number::Float4(_) | Number::Float8(_) | Number::Numeric(_) | Number::Interval(_),
            ) => Err(super::defect("a count that is not an int8")),
        }
    }
}

impl Accumulator {
    fn new(aggregate: &Aggregate, columns: &Columns) -> Result<Self> {
        let output = columns.index(aggregate.column)?;
        Ok(Self {
            output,
            output_format: columns.info(output).format,
            states: States::new(aggregate, columns)?,
        })
    }

    /// Returns the bytes that the state grew by beyond [`STATE_OVERHEAD`].
    fn add(&mut self, group: usize, body: &[u8], fields: &[Field]) -> Result<usize> {
        match &mut self.states {
            States::Sum { part, sums, .. } => {
                let part = part.read(body, fields)?;
                add_number(&mut sums[group], part)?;
                Ok(0)
            }
            States::Average { sum, count, states } => {
                let (total, counted) = &mut states[group];
                *counted = counted
                    .checked_add(count.read_count(body, fields)?)
                    .ok_or_else(|| malformed("a count beyond int8"))?;
                add_number(total, sum.read(body, fields)?)?;
                Ok(0)
            }
            States::Extreme {
                column,
                decoder,
                replaces,
                best,
            } => {
                let Some(bytes) = row::value(body, &fields[*column]) else {
                    return Ok(0);
                };
                let key = decoder.key(bytes)?;
                let best = &mut best[group];
                let size = |(key, bytes): &(Key, Box<[u8]>)| key.heap_size() + bytes.len();
                let before = best.as_ref().map_or(0, size);
                if best.as_ref().is_none_or(|(b, _)| key.cmp(b) == *replaces) {
                    *best = Some((key, bytes.into()));
                }
                Ok(best.as_ref().map_or(0, size).saturating_sub(before))
            }
            States::Bool {
                column,
                decoder,
                decisive,
                values,
            } => {
                let Some(key) = decoder.nullable_key(row::value(body, &fields[*column]))? else {
                    return Ok(0);
                };
                let value = key != Key::Int(0);
                if values[group].is_none() || value == *decisive {
                    values[group] = Some(value);
                }
                Ok(0)
            }
            States::Bits {
                column,
                decoder,
                operator,
                values,
                ..
            } => {
                let part = match decoder.nullable_key(row::value(body, &fields[*column]))? {
                    None => return Ok(0),
                    Some(Key::Int(part)) => i64::try_from(part),
                    Some(Key::Numeric(_) | Key::Bytes(_)) => {
                        return Err(super::defect("bits that are not an integer"));
                    }
                };
                let part = part.map_err(|_| malformed("an integer beyond int8"))?;
                values[group] = Some(match (values[group], operator) {
                    (None, _) => part,
                    (Some(bits), BitOperator::And) => bits & part,
                    (Some(bits), BitOperator::Or) => bits | part,
                    (Some(bits), BitOperator::Xor) => bits ^ part,
                });
                Ok(0)
            }
        }
    }

    fn finish(&self, group: usize) -> Result<Option<Vec<u8>>> {
        let format = self.output_format;
        match &self.states {
            States::Sum { empty, sums, .. } => sums[group]
                .as_ref()
                .or(empty.as_ref())
                .map(|sum| sum.write(format))
                .transpose(),
            States::Average { states, .. } => match &states[group] {
                (Some(sum), count) if *count > 0 => {
                    sum.clone().average(*count)?.write(format).map(Some)
                }
                _ => Ok(None),
            },
            States::Extreme { best, .. } => {
                Ok(best[group].as_ref().map(|(_, bytes)| bytes.to_vec()))
            }
            States::Bool { values, .. } => Ok(values[group].map(|value| match (format, value) {
                (Format::Text, true) => b"t".to_vec(),
                (Format::Text, false) => b"f".to_vec(),
                (Format::Binary, value) => vec![u8::from(value)],
            })),
            States::Bits { values, width, .. } => {
                Ok(values[group].map(|bits| width.write(bits, format)))
            }
        }
    }
}

impl States {
    fn new(aggregate: &Aggregate, columns: &Columns) -> Result<Self> {
        let column = aggregate.column;
        match aggregate.function {
            AggregateFunction::Count => Ok(Self::Sum {
                part: NumberColumn::new("count", column, columns, &[NumberType::Int8])?,
                empty: Some(Number::Int8(0)),
                sums: Vec::new(),
            }),
            AggregateFunction::Sum => {
                const SUMS: [NumberType; 5] = [
                    NumberType::Int8,
                    NumberType::Float4,
                    NumberType::Float8,
                    NumberType::Numeric,
                    NumberType::Interval,
                ];
                Ok(Self::Sum {
                    part: NumberColumn::new("sum", column, columns, &SUMS)?,
                    empty: None,
                    sums: Vec::new(),
                })
            }
            AggregateFunction::Min(collation) => {
                Self::extreme(column, collation, Ordering::Less, columns)
            }
            AggregateFunction::Max(collation) => {
                Self::extreme(column, collation, Ordering::Greater, columns)
            }
            AggregateFunction::Avg { sum, count } => Self::average(column, sum, count, columns),
            AggregateFunction::BoolAnd => Self::bool("bool_and", column, false, columns),
            AggregateFunction::BoolOr => Self::bool("bool_or", column, true, columns),
            AggregateFunction::Bits(operator) => Self::bits(operator, column, columns),
        }
    }

    fn extreme(
        column: Column,
        collation: Collation,
        replaces: Ordering,
        columns: &Columns,
    ) -> Result<Self> {
        let column = columns.index(column)?;
        Ok(Self::Extreme {
            column,
            decoder: Decoder::for_order(columns.info(column), collation)?,
            replaces,
            best: Vec::new(),
        })
    }

    /// avg() is numeric for integers and numeric. For floats it is float8, and the parts have to
    /// be float8 too: a float4 sum has already lost digits that avg(float4) keeps.
    fn average(column: Column, sum: Column, count: Column, columns: &Columns) -> Result<Self> {
        let output = columns.info(columns.index(column)?);
        let allowed: &[NumberType] = match NumberType::of(output) {
            Some(NumberType::Numeric) => &[NumberType::Int8, NumberType::Numeric],
            Some(NumberType::Float8) => &[NumberType::Float8],
            Some(NumberType::Int8 | NumberType::Float4 | NumberType::Interval) | None => &[],
        };
        Ok(Self::Average {
            sum: NumberColumn::new("avg", sum, columns, allowed)?,
            count: NumberColumn::new("avg", count, columns, &[NumberType::Int8])?,
            states: Vec::new(),
        })
    }

    fn bool(
        function: &'static str,
        column: Column,
        decisive: bool,
        columns: &Columns,
    ) -> Result<Self> {
        let column = columns.index(column)?;
        let info = columns.info(column);
        if Kind::of(info.type_oid) != Some(Kind::Bool) {
            return Err(unsupported(function, info));
        }
        Ok(Self::Bool {
            column,
            decoder: Decoder::for_equality(info)?,
            decisive,
            values: Vec::new(),
        })
    }

    fn bits(operator: BitOperator, column: Column, columns: &Columns) -> Result<Self> {
        let function = match operator {
            BitOperator::And => "bit_and",
            BitOperator::Or => "bit_or",
            BitOperator::Xor => "bit_xor",
        };
        let column = columns.index(column)?;
        let info = columns.info(column);
        let width = IntegerWidth::of(info.type_oid);
        Ok(Self::Bits {
            column,
            decoder: Decoder::for_equality(info)?,
            width: width.ok_or_else(|| unsupported(function, info))?,
            operator,
            values: Vec::new(),
        })
    }

    /// Makes room for one more group.
    fn grow(&mut self) {
        match self {
            Self::Sum { sums, .. } => sums.push(None),
            Self::Average { states, .. } => states.push((None, 0)),
            Self::Extreme { best, .. } => best.push(None),
            Self::Bool { values, .. } => values.push(None),
            Self::Bits { values, .. } => values.push(None),
        }
    }
}

/// NULL parts are skipped.
fn add_number(total: &mut Option<Number>, part: Option<Number>) -> Result<()> {
    let Some(part) = part else { return Ok(()) };
    *total = Some(match total.take() {
        Some(total) => total.add(part)?,
        None => part,
    });
    Ok(())
}

fn unsupported(function: &str, column: &ColumnInfo) -> Error {
    let message = format!("cannot combine the {function}() of several shards for this type");
    Error::new(Fault::Client, "0A000", message)
        .detail(format!(
            "Column \"{}\" has type OID {}, which is not added up outside PostgreSQL.",
            column.name, column.type_oid
        ))
        .hint(format!("Cast the argument, as in {function}(x::numeric) or {function}(x::float8), or limit the statement to one sharding key."))
}
