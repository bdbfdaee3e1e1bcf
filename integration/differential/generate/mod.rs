//! Makes statements from a seed: SQL that PostgreSQL answers in one way only, over the tables of
//! `schema.sql`. What SQL leaves open is said with the statement: which columns ORDER BY fixes, and
//! whether equal values may be written differently.
//!
//! A statement is text that is put together from parts whose types are known; there is no tree.

mod expressions;
mod queries;
mod tables;
mod writes;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use ringway::demo::tour::Statement;
pub use tables::Ty;
use tables::{Column, Table};

/// A statement and what its answer has to have in common with the plain server's.
#[derive(Debug, Clone)]
pub struct Made {
    pub statement: Statement,
    pub check: Check,
    /// The table it writes to.
    pub writes: Option<&'static str>,
}

/// What is fixed of an answer.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// Columns of the answer.
    pub types: Vec<Ty>,
    /// Places of the columns whose values ORDER BY fixes in each row.
    pub order: Vec<usize>,
    /// A limit cuts among ties: only their number and what ORDER BY fixes is compared.
    pub limited: bool,
    /// Of equal values that are written differently, any may stand for them.
    pub loose: bool,
}

/// What a column may be taken from: a table or query in FROM.
#[derive(Debug, Clone)]
struct Source {
    alias: String,
    columns: Vec<Column>,
    key: Vec<String>,
    unique: Vec<String>,
}

/// Makes one statement.
pub struct Generator {
    rng: StdRng,
    tables: Vec<Table>,
    params: Vec<Option<String>>,
    aliases: usize,
    /// Subqueries that the statement may still get.
    subqueries: usize,
    /// WITH queries in reach.
    withs: Vec<(String, Vec<Column>)>,
    loose: bool,
}

/// The statement of a seed.
pub fn statement(seed: u64) -> Made {
    let mut generator = Generator {
        rng: StdRng::seed_from_u64(seed),
        tables: tables::tables(),
        params: Vec::new(),
        aliases: 0,
        subqueries: 3,
        withs: Vec::new(),
        loose: false,
    };
    let (sql, mut check, writes) = if generator.chance(25) {
        generator.write()
    } else {
        let (sql, check) = generator.query();
        (sql, check, None)
    };
    check.loose |= generator.loose;
    Made {
        statement: Statement {
            sql,
            params: generator.params,
            copy_data: None,
        },
        check,
        writes,
    }
}

impl Generator {
    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases)
    }

    fn table(&mut self) -> Table {
        // Half of all are of the tables that belong together.
        if self.chance(50) {
            let at = self.below(5);
            return self.tables[at].clone();
        }
        let at = self.below(self.tables.len());
        self.tables[at].clone()
    }

    /// A parameter in the place of a constant.
    fn param(&mut self, value: Option<String>) -> String {
        self.params.push(value);
        format!("${}", self.params.len())
    }
}

impl Table {
    fn as_source(&self, alias: &str) -> Source {
        Source {
            alias: alias.to_owned(),
            columns: self.columns.clone(),
            key: self.key.clone(),
            unique: self.unique.clone(),
        }
    }
}

impl Source {
    fn reference(&self, column: &str) -> String {
        if self.alias.is_empty() {
            column.to_owned()
        } else {
            format!("{}.{column}", self.alias)
        }
    }

    fn type_of(&self, column: &str) -> Ty {
        let found = self.columns.iter().find(|known| known.name == column);
        found.expect("a column of the table").ty
    }
}
