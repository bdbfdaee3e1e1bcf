//! Values, conditions, aggregates and windows over what is in FROM. None of them fails at run time,
//! since whether PostgreSQL evaluates an expression may depend on its plan.

use super::tables::{Table, Ty};
use super::{Generator, Source};

const TEXTS: [&str; 22] = [
    "bob1", "bob3", "Ann 3", "", "Oslo", "oslo", "note 2", "sku3", "v1", "t1", "n3", "NO", "DK",
    "SE", "c1", "a", "ä", "L1", "page1", "no", "zebra", "x'y",
];

const DATES: [&str; 6] = [
    "2020-02-29",
    "2020-03-01",
    "2020-03-02",
    "2023-12-25",
    "2024-01-05",
    "infinity",
];

impl Generator {
    /// A column of a type, of any for `None`.
    fn column(&mut self, scope: &[Source], ty: Option<Ty>) -> Option<(String, Ty)> {
        let all: Vec<(String, Ty)> = scope
            .iter()
            .flat_map(|source| {
                let columns = source.columns.iter();
                columns.map(|column| (source.reference(&column.name), column.ty))
            })
            .filter(|(_, found)| ty.is_none_or(|ty| ty == *found))
            .collect();
        (!all.is_empty()).then(|| self.pick(&all).clone())
    }

    /// A constant's text without quotes; `None` where the type has no list of constants.
    pub(super) fn plain_text(&mut self, ty: Ty) -> Option<String> {
        Some(match ty {
            Ty::Int => (self.below(42) as i64 - 7).to_string(),
            Ty::Num => {
                let quarters = self.below(60) as i32 - 14;
                format!("{}", f64::from(quarters) / 4.0)
            }
            Ty::Float => ["0", "-0", "0.5", "NaN", "Infinity", "2"][self.below(6)].to_owned(),
            Ty::Text => (*self.pick(&TEXTS)).to_owned(),
            Ty::Bool => ["true", "false"][self.below(2)].to_owned(),
            Ty::Date => (*self.pick(&DATES)).to_owned(),
            Ty::Stamp => format!("2020-01-0{} 00:00:00.123456", 1 + self.below(3)),
            Ty::Zoned => format!("2020-03-29 0{}:30:00+00", self.below(3)),
            Ty::Time => format!("10:0{}:00", self.below(3)),
            Ty::Interval => ["1 month", "30 days", "-1 day 25 hours"][self.below(3)].to_owned(),
            Ty::Uuid => format!("a0eebc99-9c0b-4ef8-bb6d-{:012x}", 1 + self.below(24)),
            // Texts of another collation are not compared with those of ours.
            Ty::Exact(name) if name.starts_with("text COLLATE") => {
                ["zebra", "Öl", "äpfel", "coop", "résumé", ""][self.below(6)].to_owned()
            }
            Ty::Exact("mood") => ["sad", "ok", "happy"][self.below(3)].to_owned(),
            Ty::Exact(_) | Ty::Loose(_) | Ty::Opaque(_) => return None,
        })
    }

    /// A constant, a parameter, or NULL, of a type that its text tells.
    fn constant(&mut self, ty: Ty) -> String {
        let cast = |text: String| format!("{text}::{}", ty.sql());
        if self.chance(4) {
            return cast("NULL".to_owned());
        }
        let Some(plain) = self.plain_text(ty) else {
            return cast("NULL".to_owned());
        };
        let is_number = matches!(ty, Ty::Int | Ty::Num);
        // A text of digits would be written as a number in the simple protocol.
        if self.chance(15) && !(ty == Ty::Num && plain.parse::<i64>().is_ok()) {
            let param = self.param(Some(plain));
            return cast(param);
        }
        match ty {
            Ty::Bool => plain,
            _ if is_number && self.chance(85) => plain,
            _ => cast(format!("'{}'", plain.replace('\'', "''"))),
        }
    }

    /// A constant to compare a column with, also one whose type the column tells.
    fn compared(&mut self, ty: Ty) -> String {
        let Some(plain) = self.plain_text(ty) else {
            return self.constant(ty);
        };
        match self.below(10) {
            0..=1 => self.param(Some(plain)),
            2..=3 => format!("'{}'", plain.replace('\'', "''")),
            _ => self.constant(ty),
        }
    }

    /// An expression of a type.
    pub(super) fn value(&mut self, ty: Ty, scope: &[Source], depth: usize) -> String {
        let column = self.column(scope, Some(ty));
        if depth == 0 || self.chance(55) {
            if let Some((column, _)) = column
                && self.chance(90)
            {
                return column;
            }
            return self.constant(ty);
        }
        let depth = depth - 1;
        match self.below(6) {
            0 => {
                let when = self.condition(scope, depth);
                let (one, other) = (self.value(ty, scope, depth), self.value(ty, scope, depth));
                match self.below(2) {
                    0 => format!("CASE WHEN {when} THEN {one} ELSE {other} END"),
                    _ => format!("CASE WHEN {when} THEN {one} END"),
                }
            }
            1 if ty.is_comparable() => {
                let function = *self.pick(&["coalesce", "nullif", "greatest", "least"]);
                let (one, other) = (self.value(ty, scope, depth), self.value(ty, scope, depth));
                // Which of two equal values they answer does not depend on the plan.
                format!("{function}({one}, {other})")
            }
            2 if ty == Ty::Int && self.subqueries > 0 && self.chance(30) => {
                self.scalar_subquery(scope)
            }
            _ => self.computed(ty, scope, depth),
        }
    }

    fn computed(&mut self, ty: Ty, scope: &[Source], depth: usize) -> String {
        let mut one = |ty| self.value(ty, scope, depth);
        match ty {
            Ty::Int => {
                let (a, b, text) = (one(Ty::Int), one(Ty::Int), one(Ty::Text));
                match self.below(7) {
                    0 => format!("{a} + {b}"),
                    1 => format!("{a} - {b}"),
                    2 => format!("({a} % 4)"),
                    3 => format!("abs({a})"),
                    4 => format!("length({text})"),
                    5 => format!("(({a}) * 2)"),
                    _ => format!("-({a})"),
                }
            }
            Ty::Num => {
                let (a, b) = (one(Ty::Num), one(Ty::Int));
                match self.below(4) {
                    0 => format!("({a} + {b})"),
                    1 => format!("round({a}, 1)"),
                    2 => format!("({b})::numeric"),
                    _ => format!("({a} * 2)"),
                }
            }
            Ty::Float => {
                let (a, b) = (one(Ty::Float), one(Ty::Int));
                match self.below(2) {
                    0 => format!("({a} * 0.5)"),
                    _ => format!("({b})::float8"),
                }
            }
            Ty::Text => {
                let (a, b, number) = (one(Ty::Text), one(Ty::Text), one(Ty::Int));
                match self.below(8) {
                    0 => format!("upper({a})"),
                    1 => format!("lower({a})"),
                    2 => format!("({a} || {b})"),
                    3 => format!("left({a}, 2)"),
                    4 => format!("({number})::text"),
                    5 => format!("substr({a}, 2, 3)"),
                    6 => format!("concat({a}, '-', {b})"),
                    _ => format!("replace({a}, 'o', '0')"),
                }
            }
            Ty::Bool => format!("({})", self.condition(scope, depth)),
            Ty::Date => format!("({} + 1)", one(Ty::Date)),
            Ty::Stamp => format!("date_trunc('day', {})", one(Ty::Stamp)),
            Ty::Zoned => format!("({} + interval '1 hour')", one(Ty::Zoned)),
            Ty::Interval => format!("({} * 2)", one(Ty::Interval)),
            Ty::Time | Ty::Uuid | Ty::Exact(_) | Ty::Loose(_) | Ty::Opaque(_) => one(ty),
        }
    }

    /// A type that columns in scope have; one with an order if `comparable`.
    pub(super) fn some_type(&mut self, scope: &[Source], wanted: impl Fn(Ty) -> bool) -> Ty {
        for _ in 0..8 {
            if let Some((_, ty)) = self.column(scope, None)
                && wanted(ty)
            {
                return ty;
            }
        }
        Ty::Int
    }

    pub(super) fn condition(&mut self, scope: &[Source], depth: usize) -> String {
        if depth > 0 && self.chance(35) {
            let (one, other) = (
                self.condition(scope, depth - 1),
                self.condition(scope, depth - 1),
            );
            return match self.below(5) {
                0..=1 => format!("({one} AND {other})"),
                2..=3 => format!("({one} OR {other})"),
                _ => format!("NOT ({one})"),
            };
        }
        if self.subqueries > 0 && self.chance(12) {
            return self.subquery_condition(scope);
        }
        let ty = self.some_type(scope, Ty::is_comparable);
        let left = self.value(ty, scope, depth.min(1));
        let operator = *self.pick(&["=", "=", "<", "<=", ">", ">=", "<>"]);
        if self.chance(4) {
            let (one, other) = (self.value(Ty::Int, scope, 0), self.value(Ty::Int, scope, 0));
            let (two, three) = (self.compared(ty), self.constant(Ty::Int));
            return format!("({left}, {one}) {operator} ({two}, {other} + {three})");
        }
        match self.below(12) {
            0 => format!("{left} IS NULL"),
            1 => format!("{left} IS NOT NULL"),
            2 => {
                let list: Vec<String> = (0..=self.below(3)).map(|_| self.compared(ty)).collect();
                let not = if self.chance(30) { "NOT " } else { "" };
                format!("{left} {not}IN ({})", list.join(", "))
            }
            3 => {
                let (from, to) = (self.compared(ty), self.compared(ty));
                format!("{left} BETWEEN {from} AND {to}")
            }
            4 if ty == Ty::Text => {
                let pattern = *self.pick(&["%o%", "b_b%", "A%", "%1", "%"]);
                let like = *self.pick(&["LIKE", "NOT LIKE", "ILIKE", "~~"]);
                format!("{left} {like} '{pattern}'")
            }
            5 => {
                let right = self.value(ty, scope, depth.min(1));
                let not = if self.chance(50) { "NOT " } else { "" };
                format!("{left} IS {not}DISTINCT FROM {right}")
            }
            6..=8 => {
                let right = self.value(ty, scope, depth.min(1));
                format!("{left} {operator} {right}")
            }
            _ => format!("{left} {operator} {}", self.compared(ty)),
        }
    }

    /// What limits a table's key, as applications write it.
    pub(super) fn key_condition(&mut self, source: &Source, table: &Table) -> Option<String> {
        if table.key.is_empty() {
            return None;
        }
        let all = table.key.iter();
        let keys: Vec<(String, Ty)> = all
            .map(|key| (source.reference(key), source.type_of(key)))
            .collect();
        let (key, ty) = keys[0].clone();
        let mut constants =
            |n: usize| -> Vec<String> { (0..n).map(|_| self.compared(ty)).collect() };
        let several = constants(3);
        let one = several[0].clone();
        if keys.len() == 1 {
            let list = several.join(", ");
            return Some(match self.below(8) {
                0..=2 => format!("{key} = {one}"),
                3 => format!("{one} = {key}"),
                4 => format!("{key} IN ({list})"),
                5 if ty == Ty::Int => format!("{key} = ANY (ARRAY[1, 2, 17])"),
                5 => format!("{key} IN ({list})"),
                6 => format!("({key} = {one} OR {key} = {})", several[1]),
                _ => format!("{key} BETWEEN {one} AND {}", several[1]),
            });
        }
        let second = self.compared(keys[1].1);
        Some(match self.below(3) {
            0 => format!("{key} = {one} AND {} = {second}", keys[1].0),
            1 => format!("({key}, {}) = ({one}, {second})", keys[1].0),
            _ => format!("{key} = {one}"),
        })
    }

    /// An aggregate that does not depend on the order of rows, with its type.
    pub(super) fn aggregate(&mut self, scope: &[Source], nested: bool) -> (String, Ty) {
        let (mut call, ty) = self.bare_aggregate(scope, nested);
        if self.chance(20) && !call.starts_with("round(") {
            let filter = self.condition(scope, 1);
            call = format!("{call} FILTER (WHERE {filter})");
        }
        if call.starts_with("array_agg") {
            // Elements of two collations have none to compare by, which is told if it comes to that.
            call += "::text COLLATE \"C\"";
        }
        (call, ty)
    }

    fn bare_aggregate(&mut self, scope: &[Source], nested: bool) -> (String, Ty) {
        let exact = self.some_type(scope, Ty::is_exact);
        match self.below(16) {
            0..=2 => ("count(*)".to_owned(), Ty::Int),
            3 => (format!("count({})", self.value(exact, scope, 1)), Ty::Int),
            4 => {
                let value = self.value(exact, scope, 1);
                (format!("count(DISTINCT {value})"), Ty::Int)
            }
            // A sum of bigint is numeric.
            5 => (format!("sum({})", self.value(Ty::Int, scope, 1)), Ty::Num),
            6 => (format!("sum({})", self.value(Ty::Num, scope, 1)), Ty::Num),
            7 => (format!("avg({})", self.value(Ty::Int, scope, 1)), Ty::Num),
            8 => (format!("avg({})", self.value(Ty::Num, scope, 0)), Ty::Num),
            9..=11 => {
                let ty = *self.pick(&[
                    Ty::Int,
                    Ty::Text,
                    Ty::Date,
                    Ty::Stamp,
                    Ty::Zoned,
                    Ty::Time,
                    Ty::Num,
                    Ty::Float,
                ]);
                // Of equal values either may be the least.
                let ty = if nested && !ty.is_exact() {
                    Ty::Int
                } else {
                    ty
                };
                self.loose |= !ty.is_exact();
                let function = *self.pick(&["min", "max"]);
                (format!("{function}({})", self.value(ty, scope, 1)), ty)
            }
            12 => {
                let function = *self.pick(&["bool_and", "bool_or", "every"]);
                (
                    format!("{function}({})", self.condition(scope, 1)),
                    Ty::Bool,
                )
            }
            13 => {
                let value = self.value(Ty::Text, scope, 1);
                let distinct = if self.chance(30) { "DISTINCT " } else { "" };
                let call = format!("string_agg({distinct}{value}, ',' ORDER BY {value})");
                (call, Ty::Text)
            }
            14 => {
                let value = self.value(exact, scope, 0);
                let call = format!("array_agg({value} ORDER BY {value} DESC NULLS LAST)");
                (call, Ty::Text)
            }
            _ => {
                let value = self.value(Ty::Int, scope, 0);
                match self.below(4) {
                    0 => (format!("round(stddev({value}), 6)"), Ty::Num),
                    1 => (
                        format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {value})"),
                        Ty::Int,
                    ),
                    2 => (format!("mode() WITHIN GROUP (ORDER BY {value})"), Ty::Int),
                    _ => (format!("bit_or({value})"), Ty::Int),
                }
            }
        }
    }

    /// A window function that does not depend on the order of ties, with its type.
    pub(super) fn window(&mut self, scope: &[Source]) -> (String, Ty) {
        let partition = if self.chance(60) {
            let key = scope[0].key.first();
            let by = match key {
                Some(key) if self.chance(40) => scope[0].reference(key),
                _ => {
                    let ty = self.some_type(scope, Ty::is_comparable);
                    self.value(ty, scope, 0)
                }
            };
            format!("PARTITION BY {by} ")
        } else {
            String::new()
        };
        let ty = self.some_type(scope, Ty::is_comparable);
        let by = self.value(ty, scope, 0);
        let direction = *self.pick(&["", " DESC", " NULLS FIRST"]);
        let order = format!("ORDER BY {by}{direction}");
        let unique = scope.len() == 1 && !scope[0].unique.is_empty();
        if unique && self.chance(50) {
            let unique: Vec<String> = scope[0]
                .unique
                .iter()
                .map(|column| scope[0].reference(column))
                .collect();
            let frame = *self.pick(&[
                "",
                "",
                " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
                " ROWS 2 PRECEDING",
            ]);
            let over = format!("OVER ({partition}{order}, {}{frame})", unique.join(", "));
            let number = self.value(Ty::Int, scope, 0);
            return match self.below(6) {
                5 => (format!("sum({number}) {over}"), Ty::Num),
                0..=1 => (format!("row_number() {over}"), Ty::Int),
                2 => (format!("lag({number}) {over}"), Ty::Int),
                3 => (format!("first_value({number}) {over}"), Ty::Int),
                _ => (format!("ntile(3) {over}"), Ty::Int),
            };
        }
        let over = format!("OVER ({partition}{order})");
        let all = format!("OVER ({})", partition.trim_end());
        let number = self.value(Ty::Int, scope, 0);
        match self.below(6) {
            0 => (format!("rank() {over}"), Ty::Int),
            1 => (format!("dense_rank() {over}"), Ty::Int),
            2 => (format!("count(*) {all}"), Ty::Int),
            3 => (format!("sum({number}) {over}"), Ty::Num),
            4 => (format!("max({number}) {all}"), Ty::Int),
            _ => (format!("count({number}) {over}"), Ty::Int),
        }
    }
}
