//! What the generator knows of `schema.sql`.

/// What an expression's type means for a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ty {
    Int,
    Num,
    Float,
    Text,
    Bool,
    Date,
    Stamp,
    Zoned,
    Time,
    Interval,
    Uuid,
    /// Another type with an order, whose equal values are written alike.
    Exact(&'static str),
    /// Another type with an order, whose equal values may be written differently.
    Loose(&'static str),
    /// A type without `=`.
    Opaque(&'static str),
}

impl Ty {
    /// By the words of [`TABLES`].
    fn named(name: &'static str) -> Self {
        match name {
            "int" => Self::Int,
            "num" => Self::Num,
            "float" => Self::Float,
            "text" => Self::Text,
            "bool" => Self::Bool,
            "date" => Self::Date,
            "stamp" => Self::Stamp,
            "zoned" => Self::Zoned,
            "time" => Self::Time,
            "interval" => Self::Interval,
            "uuid" => Self::Uuid,
            "jsonb" => Self::Loose(name),
            "json" | "xml" | "box" | "point" | "jsonpath" | "pair" => Self::Opaque(name),
            _ => Self::Exact(name),
        }
    }

    /// Whether `=` means that both are written alike.
    pub fn is_exact(self) -> bool {
        match self {
            Self::Num | Self::Float | Self::Interval | Self::Loose(_) | Self::Opaque(_) => false,
            Self::Int
            | Self::Text
            | Self::Bool
            | Self::Date
            | Self::Stamp
            | Self::Zoned
            | Self::Time
            | Self::Uuid
            | Self::Exact(_) => true,
        }
    }

    pub fn is_comparable(self) -> bool {
        !matches!(self, Self::Opaque(_))
    }

    /// The type's name in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Int => "bigint",
            Self::Num => "numeric",
            Self::Float => "float8",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Date => "date",
            Self::Stamp => "timestamp",
            Self::Zoned => "timestamptz",
            Self::Time => "time",
            Self::Interval => "interval",
            Self::Uuid => "uuid",
            Self::Exact(name) | Self::Loose(name) | Self::Opaque(name) => {
                // A constant takes the collation of the column that it meets.
                name.split(" COLLATE ").next().unwrap_or(name)
            }
        }
    }
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub ty: Ty,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: &'static str,
    /// How it is placed: tables of one letter are co-located; `r` is a reference table, `1` single.
    pub family: &'static str,
    pub key: Vec<String>,
    /// A unique index; none where empty.
    pub unique: Vec<String>,
    pub columns: Vec<Column>,
}

/// Name, family, sharding key, unique columns, then columns with their types.
const TABLES: &str = r#"
people; i; id; id; id int, name text, city text, age int, score num, ratio float, weight float, born date, seen stamp, at zoned, ok bool, tags text[], doc jsonb, code character(4), nick text, span interval, clock time, rank2 int, feel mood, price money
orders; i; person_id; person_id, id; id int, person_id int, total num, qty int, note text, made stamp
items; i; person_id;; order_id int, person_id int, sku text, n int
tiny; i; id; id; id int, v int
mid; i; id; id; id int, v text, people_id int
plots; i; id; id; id int, f int, spots integer[], place point, title text, both_ pair
kinds; i; id; id; id int, raw bytea, net inet, cidr_ cidr, mac macaddr, bits bit(5), vbits varbit, plain json, span int4range, spans int8multirange, vector tsvector, lsn pg_lsn, zoned timetz, o oid, c "char", sys name, many integer[], grid text[], box_ box, link xml, whole jsonb, big num, path_ jsonpath, dates daterange
terms; i; id; id; id int, term text COLLATE "de-x-icu", lower_ text COLLATE "en-US-x-icu", n int
words; t; word; word; word text, n int, alt text
nicks; t; nick; nick; nick text, n int
tokens; u; id; id; id uuid, owner int, label text
"Mixed Case"; i; "Key"; "Key"; "Key" int, "order" int, "select" text, key int
prices; n; price; price; price num, name text, n int
visits; d; day; day, page; day date, page text, n int
parcels; c; tenant, code; tenant, code; tenant int, code text, weight int
branches; l; country;; country text, name text, staff int
readings; a; sensor;; sensor int, at stamp, value num
countries; r;; code; code text, name text, area num, person_id int, made zoned
notes; 1;; id; id int, person_id int, what text
"#;

/// All tables.
pub fn tables() -> Vec<Table> {
    TABLES.trim().lines().map(table).collect()
}

fn table(line: &'static str) -> Table {
    let parts: Vec<&'static str> = line.split(';').map(str::trim).collect();
    let names = |part: &'static str| -> Vec<String> {
        let names = part.split(',').map(|name| name.trim().to_owned());
        names.filter(|name| !name.is_empty()).collect()
    };
    let column = |column: &'static str| {
        let (name, ty) = column.trim().split_once(' ').unwrap();
        Column {
            name: name.to_owned(),
            ty: Ty::named(ty),
        }
    };
    Table {
        name: parts[0],
        family: parts[1],
        key: names(parts[2]),
        unique: names(parts[3]),
        columns: parts[4].split(", ").map(column).collect(),
    }
}
