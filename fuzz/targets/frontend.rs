//! A client's messages after login: what is read can be written again, byte for byte.

#![no_main]

use bytes::{Buf, BytesMut};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ringway::wire::frame::{self, HEADER};
use ringway::wire::frontend::{self, Bind, Execute, Named, Parse};
use ringway::wire::write;
use ringway_fuzz::{Drips, mutate};

const MAX_MESSAGE: usize = 1 << 16;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed, false, fuzzer_mutate)
});

fuzz_target!(|input: &[u8]| {
    let drips = Drips::of(input);
    let mut whole = Vec::new();
    let end = read(std::iter::once(drips.stream), &mut whole);
    let mut dripped = Vec::new();
    assert_eq!(read(drips.pieces(), &mut dripped), end);
    assert_eq!(whole, dripped);
    for frame in &whole {
        understand(frame[0], &frame[HEADER..]);
    }
});

/// Frames as a session takes them; the error that ends them, if one does.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, frames: &mut Vec<Vec<u8>>) -> Option<String> {
    let mut inbox = BytesMut::new();
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            let header = match frame::peek(&inbox) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return Some(error.to_string()),
            };
            if let Err(error) = frontend::check(header.tag, header.len, MAX_MESSAGE) {
                return Some(error.to_string());
            }
            let whole = frame::whole(&inbox).unwrap();
            assert_eq!(whole.is_some(), inbox.len() >= header.len);
            if whole.is_none() {
                break;
            }
            frames.push(inbox[..header.len].to_vec());
            inbox.advance(header.len);
        }
    }
    None
}

fn understand(tag: u8, body: &[u8]) {
    let mut out = BytesMut::new();
    let read = match tag {
        b'Q' => frontend::query(body).map(|sql| write::query(&mut out, sql)),
        b'P' => Parse::read(body).map(|p| write::parse(&mut out, p.name, p.sql, &p.types)),
        b'B' => bind(body, &mut out),
        b'D' | b'C' => Named::read(body, "Describe").map(|named| match (tag, named) {
            (b'D', Named::Statement(name)) => write::describe(&mut out, b'S', name),
            (b'D', Named::Portal(name)) => write::describe(&mut out, b'P', name),
            (_, Named::Statement(name)) => write::close(&mut out, b'S', name),
            (_, Named::Portal(name)) => write::close(&mut out, b'P', name),
        }),
        b'E' => Execute::read(body).map(|e| {
            write::execute(&mut out, e.portal, e.max_rows);
            // A negative limit is none, and is written as none.
            let len = out.len();
            if e.max_rows == 0 {
                out[len - 4..].copy_from_slice(&body[body.len() - 4..]);
            }
        }),
        _ => return,
    };
    if read.is_ok() {
        assert_eq!(&out[HEADER..], body);
    }
}

fn bind(body: &[u8], out: &mut BytesMut) -> Result<(), ringway::error::Error> {
    let bind = Bind::read(body)?;
    let (portal, statement, rest) = Bind::names(body)?;
    assert_eq!(
        (portal, statement, rest),
        (bind.portal, bind.statement, bind.rest)
    );
    for param in 0..bind.values.len() + 1 {
        bind.is_binary(param);
    }
    write::bind(out, portal, statement, rest);
    Ok(())
}
