//! Authentication messages: requests to the client and its responses; md5 and passwords in the
//! clear, which are one of each.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use crate::error::{Error, Fault, Result};
use crate::net::Stream;
use crate::wire::startup::read_frame;
use crate::wire::{frame, write};

pub(super) const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;

/// Longest message of a SASL exchange, header included (PG_MAX_SASL_MESSAGE_LENGTH).
pub(super) const MAX_SASL_MESSAGE: usize = 1024;
/// Longest message with a password in it (PG_MAX_AUTH_TOKEN_LENGTH).
const MAX_PASSWORD_MESSAGE: usize = 65_535;

/// Asks for the password as it is.
pub(super) async fn ask_password(stream: &mut Stream, buf: &mut BytesMut) -> Result<String> {
    let mut out = BytesMut::new();
    request(&mut out, CLEARTEXT, &[]);
    send(stream, &out).await?;
    read_password(stream, buf).await
}

/// Asks for the password's hash with a salt that is never used again.
pub(super) async fn ask_md5(stream: &mut Stream, buf: &mut BytesMut) -> Result<([u8; 4], String)> {
    let salt: [u8; 4] = rand::random();
    let mut out = BytesMut::new();
    request(&mut out, MD5, &salt);
    send(stream, &out).await?;
    Ok((salt, read_password(stream, buf).await?))
}

async fn read_password(stream: &mut Stream, buf: &mut BytesMut) -> Result<String> {
    let body = read_response(stream, buf, MAX_PASSWORD_MESSAGE).await?;
    let mut rest = &body[..];
    let password = frame::cstr(&mut rest)
        .filter(|_| rest.is_empty())
        .ok_or_else(|| Error::protocol("invalid password packet size"))?;
    if password.is_empty() {
        let what = "empty password returned by client";
        return Err(Error::new(Fault::Client, "28P01", what).fatal());
    }
    // No password that is kept has a zero byte, so that whoever sends other bytes is wrong.
    Ok(String::from_utf8(password.to_vec()).unwrap_or_else(|_| "\0".to_owned()))
}

pub(super) async fn read_response(
    stream: &mut Stream,
    buf: &mut BytesMut,
    max: usize,
) -> Result<Bytes> {
    let (tag, body) = read_frame(stream, buf, max).await.map_err(|error| {
        Error::protocol("could not receive the client's response").detail(error.to_string())
    })?;
    match tag {
        b'p' => Ok(body),
        other => Err(Error::protocol(format!(
            "expected password or SASL response, got message type {other}"
        ))),
    }
}

pub(super) fn request(out: &mut BytesMut, code: u32, data: &[u8]) {
    write::frame(out, b'R', |out| {
        out.put_u32(code);
        out.put_slice(data);
    });
}

pub(super) async fn send(stream: &mut Stream, out: &[u8]) -> Result<()> {
    let sent = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| {
        Error::new(Fault::Client, "08006", "could not send data to client")
            .detail(error.to_string())
            .fatal()
    })
}
