//! SHOW USERS.

use super::table::{Cell, Column, Row, int4, text};

/// A user; limits for single users do not exist in Ringway, so their columns are empty or 0.
#[derive(Debug, Clone, Default)]
pub struct UserRow {
    pub name: String,
    /// Connections to servers that log in there as this user.
    pub server_connections: usize,
    pub client_connections: usize,
}

impl Row for UserRow {
    const COLUMNS: &'static [Column] = &[
        text("name"),
        text("pool_size"),
        text("reserve_pool_size"),
        text("pool_mode"),
        int4("max_user_connections"),
        int4("current_connections"),
        int4("max_user_client_connections"),
        int4("current_client_connections"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.name.into(),
            "".into(),
            "".into(),
            Cell::Null,
            Cell::Number(0),
            self.server_connections.into(),
            Cell::Number(0),
            self.client_connections.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = UserRow {
            name: "app".into(),
            server_connections: 2,
            client_connections: 3,
        };
        assert_eq!(
            printed([row]),
            "name|pool_size|reserve_pool_size|pool_mode|max_user_connections|current_connections|\
             max_user_client_connections|current_client_connections\napp|||NULL|0|2|0|3",
        );
    }
}
