//! SHOW USERS.

use super::table::{Cell, Column, Row, int4, text};
use crate::config::{PoolMode, UserLimits};

/// A user. What its section leaves to the databases is empty.
#[derive(Debug, Clone, Default)]
pub struct UserRow {
    pub name: String,
    /// Connections to servers that log in there as this user.
    pub server_connections: usize,
    pub client_connections: usize,
    pub limits: UserLimits,
    /// 0 is no limit.
    pub max_server_connections: u32,
    pub max_client_connections: u32,
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
            written(self.limits.size).into(),
            written(self.limits.reserve_size).into(),
            self.limits.mode.map(PoolMode::name).into(),
            self.max_server_connections.into(),
            self.server_connections.into(),
            self.max_client_connections.into(),
            self.client_connections.into(),
        ]
    }
}

fn written(number: Option<u32>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
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
            max_server_connections: 5,
            max_client_connections: 6,
            limits: UserLimits {
                size: Some(4),
                ..UserLimits::default()
            },
        };
        assert_eq!(
            printed([row]),
            "name|pool_size|reserve_pool_size|pool_mode|max_user_connections|current_connections|\
             max_user_client_connections|current_client_connections\napp|4||NULL|5|2|6|3",
        );
    }
}
