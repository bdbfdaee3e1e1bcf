//! SHOW PREPARED: Ringway's own table, the texts that clients have prepared.

use super::table::{Cell, Column, Row, int4, int8, text};

/// A text, under the types that its Parse declared and the settings that it was parsed under.
#[derive(Debug, Clone)]
pub struct PreparedRow {
    pub database: String,
    /// Its name on servers.
    pub name: String,
    /// It has a name at its clients too; else it is kept for the next one that sends it.
    pub is_named: bool,
    /// Clients and connections that hold it now.
    pub holders: usize,
    pub bytes: usize,
    /// A table that it names has changed: the next Parse makes another one.
    pub is_outdated: bool,
    /// Without values.
    pub statement: String,
}

impl Row for PreparedRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("name"),
        text("kind"),
        int4("holders"),
        int8("bytes"),
        int4("outdated"),
        text("statement"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.database.into(),
            self.name.into(),
            if self.is_named { "named" } else { "unnamed" }.into(),
            self.holders.into(),
            self.bytes.into(),
            self.is_outdated.into(),
            self.statement.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = PreparedRow {
            database: "shop".into(),
            name: "ringway_7".into(),
            is_named: true,
            holders: 2,
            bytes: 300,
            is_outdated: false,
            statement: "SELECT ?".into(),
        };
        assert_eq!(
            printed([row]),
            "database|name|kind|holders|bytes|outdated|statement\n\
             shop|ringway_7|named|2|300|0|SELECT ?"
        );
    }
}
