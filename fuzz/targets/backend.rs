//! A server's replies against the queue of what it owes: however they arrive, the client gets the
//! same bytes, and a lie puts the connection in doubt.

#![no_main]

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ringway::backend::server::prepared::PreparedLimits;
use ringway::backend::server::{Activity, Expect, Identity, Progress, Server, StatementId};
use ringway::net::{Instant, Stream};
use ringway::wire::conn::Conn;
use ringway_fuzz::{Drips, block_on, mutate};
use tokio::net::UnixStream;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed, false, fuzzer_mutate)
});

fuzz_target!(|input: &[u8]| {
    let drips = Drips::of(input);
    let (dripped, whole) = block_on(async {
        // The runtime forgets sockets that are closed when it looks for events.
        tokio::task::yield_now().await;
        // Its replies are owed by the same bytes that cut them: one input, one story.
        let owed = input.get(1..).unwrap_or_default();
        (
            play(owed, drips.pieces()),
            play(owed, std::iter::once(drips.stream)),
        )
    });
    assert_eq!(dripped, whole);
});

/// What the client got, and how it ended.
fn play<'a>(owed: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool, bool) {
    let mut server = server();
    server.expect.extend(owed.iter().take(8).map(expect));
    let mut out = BytesMut::new();
    let mut sound = true;
    // What needs no reply is looked at before the first byte, as a relay does.
    'stream: for piece in std::iter::once(&[][..]).chain(pieces) {
        server.conn.inbox.extend_from_slice(piece);
        loop {
            let progress = server.scan(&mut out);
            server.flush_approved(&mut out);
            match progress {
                Ok(Progress::CopyIn) => {}
                // Nothing was kept to be sent again.
                Ok(Progress::Withheld) => unreachable!("nothing is withheld"),
                Ok(Progress::Starved) => break,
                Ok(Progress::Done) => break 'stream,
                Err(_) => {
                    sound = false;
                    assert!(server.doubt.is_some());
                    break 'stream;
                }
            }
        }
    }
    (out.to_vec(), sound, server.expect.is_empty())
}

fn expect(byte: &u8) -> Expect {
    let (show, id) = (byte & 0x10 == 0, StatementId(u64::from(byte >> 6)));
    match byte & 7 {
        0 | 1 => Expect::Ready { show },
        2 => Expect::Parse {
            show,
            id,
            named: (byte & 0x20 == 0).then_some(100),
        },
        3 => Expect::Bind {
            called: (!show).then(|| (id, (*b"called").into())),
        },
        4 => Expect::Describe {
            of: (!show).then_some(id),
        },
        5 => Expect::Execute,
        6 => Expect::Close {
            show,
            evicts: (byte & 0x20 == 0).then_some((id, 100)),
        },
        _ => match show {
            true => Expect::Inject(Bytes::from_static(b"injected")),
            false => Expect::Fail(Bytes::from_static(b"failed")),
        },
    }
}

fn server() -> Server {
    let (ours, _) = UnixStream::pair().unwrap();
    let identity = Identity {
        id: 1,
        endpoint: ringway::config::Endpoint {
            host: "server".into(),
            port: 5432,
        },
        user: "app".into(),
        pid: 1,
        cancel_key: Bytes::new(),
        tls: None,
        peer: None,
        local: None,
        connected_at: Instant::now(),
        activity: Activity::default(),
    };
    Server::new(
        Conn::new(Stream::Unix(ours), BytesMut::new()),
        identity,
        BTreeMap::new(),
        PreparedLimits {
            count: 2,
            bytes: 1000,
        },
    )
}
