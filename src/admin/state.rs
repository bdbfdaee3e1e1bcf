//! SHOW STATE: what PAUSE has done to the process as a whole.

use super::table::{Cell, Column, Row, text};

pub struct StateRow {
    key: &'static str,
    value: bool,
}

impl StateRow {
    /// `paused`: every database is.
    pub fn all(paused: bool) -> [Self; 3] {
        let row = |key, value| Self { key, value };
        [
            row("active", !paused),
            row("paused", paused),
            // SUSPEND is refused.
            row("suspended", false),
        ]
    }
}

impl Row for StateRow {
    const COLUMNS: &'static [Column] = &[text("key"), text("value")];

    fn cells(self) -> Vec<Cell> {
        let value = if self.value { "yes" } else { "no" };
        vec![self.key.into(), value.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn rows() {
        assert_eq!(
            printed(StateRow::all(true)),
            "key|value\nactive|no\npaused|yes\nsuspended|no"
        );
    }
}
