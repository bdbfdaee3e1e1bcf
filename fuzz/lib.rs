//! What the targets share: streams that drip, and mutations that keep to the grammar of frames.
//!
//! An input is a count, that many step lengths, and the stream. Delivered in those steps, which
//! repeat, a stream must mean the same as in one piece.

use std::future::Future;

use ringway::wire::frame::{self, HEADER};

/// A stream and the steps in which it arrives.
pub struct Drips<'a> {
    steps: &'a [u8],
    pub stream: &'a [u8],
}

impl<'a> Drips<'a> {
    pub fn of(input: &'a [u8]) -> Self {
        const MOST: u8 = 16;
        let Some((count, rest)) = input.split_first() else {
            return Self {
                steps: &[],
                stream: input,
            };
        };
        let (steps, stream) = rest.split_at(usize::from(count % MOST).min(rest.len()));
        Self { steps, stream }
    }

    /// The stream in pieces; without steps it is one.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.stream;
        let mut steps = self.steps.iter().cycle();
        std::iter::from_fn(move || {
            let (last, len) = (rest.is_empty(), steps.next());
            let len = len.map_or(rest.len(), |len| usize::from(*len).max(1));
            let (piece, left) = rest.split_at(len.min(rest.len()));
            rest = left;
            (!last).then_some(piece)
        })
    }
}

/// Runs a future that only waits for sockets of this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Changes the body of one frame and then, mostly, tells its length as it is: blind mutations
/// seldom get past a header. `tagless` frames have no tag before their length.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    tagless: bool,
    blind: fn(&mut [u8], usize, usize) -> usize,
) -> usize {
    let head = if tagless { HEADER - 1 } else { HEADER };
    let start = size - Drips::of(&data[..size]).stream.len();
    let frames = frames(&data[start..size], tagless);
    if seed % 4 == 0 || frames.is_empty() {
        return blind(data, size, max_size);
    }
    let (from, len) = frames[seed as usize / 4 % frames.len()];
    let (from, end) = (start + from, start + from + len);
    let mut body = data[from + head..end].to_vec();
    let old = body.len();
    let most = max_size - (size - old);
    body.resize(most.max(old), 0);
    let new = blind(&mut body, old, most.max(old)).min(most);
    let tail = data[end..size].to_vec();
    data[from + head..from + head + new].copy_from_slice(&body[..new]);
    data[from + head + new..from + head + new + tail.len()].copy_from_slice(&tail);
    // Now and then it lies.
    if seed % 16 != 1 {
        let told = (new as u32 + 4).to_be_bytes();
        data[from + head - 4..from + head].copy_from_slice(&told);
    }
    size - old + new
}

/// Where the whole frames at the start of a stream are: offset and length.
fn frames(stream: &[u8], tagless: bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = &stream[at..];
        let len = match (tagless, rest) {
            (true, [a, b, c, d, ..]) => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
            (true, _) => return found,
            (false, _) => match frame::peek(rest) {
                Ok(Some(header)) => header.len,
                Ok(None) | Err(_) => return found,
            },
        };
        if len < 4 || len > rest.len() {
            return found;
        }
        found.push((at, len));
        at += len;
    }
}
