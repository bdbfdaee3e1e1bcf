//! SHOW VERSION.

use super::table::{Cell, Column, Row, text};

pub struct VersionRow;

impl Row for VersionRow {
    const COLUMNS: &'static [Column] = &[text("version")];

    fn cells(self) -> Vec<Cell> {
        vec![concat!("Ringway ", env!("CARGO_PKG_VERSION")).into()]
    }
}
