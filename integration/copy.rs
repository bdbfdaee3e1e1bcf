//! COPY at the level of frames.

use crate::support::Ringway;
use crate::support::wire::{Wire, frame};

/// Drivers send Sync with the Execute of a COPY FROM STDIN, before they know that data is wanted.
/// PostgreSQL ignores that Sync once it is copying, so only the one after CopyDone is answered.
/// <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>
#[tokio::test]
async fn a_sync_before_the_copied_data_is_ignored() {
    let ringway = Ringway::of_shop().await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    wire.query("BEGIN");
    wire.read_to_ready();
    let start = [
        frame(b'P', b"\0COPY settings FROM STDIN\0\0\0"),
        frame(b'B', b"\0\0\0\0\0\0\0\0"),
        frame(b'E', b"\0\0\0\0\0"),
        frame(b'S', b""),
    ];
    wire.send_bytes(&start.concat());
    for tag in [b'1', b'2', b'G'] {
        let frame = wire.read().unwrap();
        assert_eq!(frame.tag, tag, "{:?}", String::from_utf8_lossy(&frame.body));
    }
    wire.send(b'd', b"theme\tdark\n");
    wire.send(b'c', b"");
    wire.send(b'S', b"");
    let frames = wire.read_to_ready();
    let tags: Vec<char> = frames.iter().map(|frame| char::from(frame.tag)).collect();
    assert_eq!(tags, ['C', 'Z']);
    assert_eq!(frames[0].body, b"COPY 1\0");
    assert_eq!(frames[1].body, b"T");
    wire.query("ROLLBACK");
    let tags: Vec<u8> = wire.read_to_ready().iter().map(|frame| frame.tag).collect();
    assert_eq!(tags, [b'C', b'Z']);
}
