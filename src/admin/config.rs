//! SHOW CONFIG.

use super::table::{Cell, Column, Row, text};
use crate::config::Entry;

/// A setting, from [`crate::config::entries`], which leaves secrets out.
pub struct ConfigRow(pub Entry);

impl Row for ConfigRow {
    const COLUMNS: &'static [Column] = &[
        text("key"),
        text("value"),
        text("default"),
        text("changeable"),
    ];

    fn cells(self) -> Vec<Cell> {
        let Entry {
            key,
            value,
            default,
            changeable,
        } = self.0;
        let changeable = if changeable { "yes" } else { "no" };
        vec![key.into(), value.into(), default.into(), changeable.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let entry = Entry {
            key: "general.workers".into(),
            value: "2".into(),
            default: "1".into(),
            changeable: false,
        };
        assert_eq!(
            printed([ConfigRow(entry)]),
            "key|value|default|changeable\ngeneral.workers|2|1|no"
        );
    }
}
