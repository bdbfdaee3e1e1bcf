use crate::error::Error;
pub struct ConnectTarget { pub endpoint: crate::config::Endpoint, pub dbname: String, pub user: String, pub password: Option<crate::config::Secret>, pub tls: Option<crate::net::TlsConnector>, pub connect_timeout: std::time::Duration }
pub struct Connected { pub stream: crate::net::Stream, pub leftover: bytes::BytesMut, pub parameters: Vec<(String, String)>, pub pid: i32, pub cancel_key: bytes::Bytes }
pub async fn connect(_t: &ConnectTarget) -> Result<Connected, Error> { std::future::pending().await }
