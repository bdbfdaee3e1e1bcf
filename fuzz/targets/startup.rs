//! What a client sends before it is somebody: the packets without a tag, in drips.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ringway::net::Stream;
use ringway::wire::startup::{Opening, open};
use ringway_fuzz::{Drips, block_on, mutate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed, true, fuzzer_mutate)
});

fuzz_target!(|input: &[u8]| {
    let drips = Drips::of(input);
    let dripped = arrive(drips.pieces());
    let whole = arrive(std::iter::once(drips.stream));
    // What comes along with a request to encrypt is refused, what comes after it is not: there the
    // pieces count, and must.
    if !has_encryption_request(drips.stream) {
        assert_eq!(dripped, whole);
    }
});

/// What the client came for and what it sent after that, or why it is refused.
fn arrive<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<(Opening, Vec<u8>), String> {
    block_on(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, leftover, opening) = open(Stream::Unix(ours), None)
                .await
                .map_err(|error| error.to_string())?;
            let mut rest = leftover.to_vec();
            // The other side reads nothing, so this may end with an error.
            let _ = stream.read_to_end(&mut rest).await;
            Ok((opening, rest))
        });
        for piece in pieces {
            // It may have been refused already.
            let _ = theirs.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = theirs.shutdown().await;
        task.await.unwrap()
    })
}

fn has_encryption_request(stream: &[u8]) -> bool {
    let requests = [5679u16, 5680].map(|code| [1234u16.to_be_bytes(), code.to_be_bytes()].concat());
    requests
        .iter()
        .any(|request| stream.windows(4).any(|window| window == request))
}
