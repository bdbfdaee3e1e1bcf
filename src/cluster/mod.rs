//! The servers as they are: health, roles, lag, the catalog, and which server should answer.
