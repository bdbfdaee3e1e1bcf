//! Replies as a trace writes them. Left out is what may differ between two servers that answer the
//! same: process ids, OIDs of tables, source positions in PostgreSQL, languages.

use std::fmt::Write;

use crate::support::wire::Frame;

/// Rows and COPY data in longer runs than this are counted, with one checksum for all.
const LONGEST_RUN: usize = 12;

/// The message's name in PostgreSQL's documentation.
pub fn name(tag: u8) -> &'static str {
    match tag {
        b'1' => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'A' => "NotificationResponse",
        b'C' => "CommandComplete",
        b'D' => "DataRow",
        b'E' => "ErrorResponse",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'I' => "EmptyQueryResponse",
        b'K' => "BackendKeyData",
        b'N' => "NoticeResponse",
        b'R' => "Authentication",
        b'S' => "ParameterStatus",
        b'T' => "RowDescription",
        b'V' => "FunctionCallResponse",
        b'Z' => "ReadyForQuery",
        b'c' => "CopyDone",
        b'd' => "CopyData",
        b'n' => "NoData",
        b's' => "PortalSuspended",
        b't' => "ParameterDescription",
        b'v' => "NegotiateProtocolVersion",
        other => panic!("unknown reply {}", other.escape_ascii()),
    }
}

/// One line per frame.
pub fn describe(frames: &[Frame]) -> String {
    let mut out = String::new();
    for run in frames.chunk_by(|a, b| a.tag == b.tag) {
        let tag = run[0].tag;
        if run.len() > LONGEST_RUN && matches!(tag, b'D' | b'd') {
            let sum = checksum(run);
            let _ = writeln!(
                out,
                "< {} {} times, checksum {sum:016x}",
                name(tag),
                run.len()
            );
            continue;
        }
        for frame in run {
            let body = body(frame);
            let gap = if body.is_empty() { "" } else { " " };
            let _ = writeln!(out, "< {}{gap}{body}", name(frame.tag));
        }
    }
    out
}

/// FNV-1a.
fn checksum(frames: &[Frame]) -> u64 {
    let bytes = frames.iter().flat_map(|frame| frame.body.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn body(frame: &Frame) -> String {
    let mut body = Reader(&frame.body);
    match frame.tag {
        b'1' | b'2' | b'3' | b'I' | b'c' | b'n' | b's' => String::new(),
        b'A' => {
            body.take(4);
            format!("{} {}", body.text(), body.text())
        }
        b'C' => body.text(),
        b'D' => {
            let values = (0..body.u16()).map(|_| body.value()).collect::<Vec<_>>();
            values.join(" ")
        }
        b'E' | b'N' => error(frame),
        b'G' | b'H' => {
            let overall = body.take(1)[0];
            let formats: Vec<_> = (0..body.u16()).map(|_| body.u16()).collect();
            format!("{overall} {formats:?}")
        }
        // The key's length.
        b'K' => (frame.body.len() - 4).to_string(),
        b'R' => body.u32().to_string(),
        b'S' => format!("{} {}", body.text(), body.text()),
        b'T' => {
            let columns = (0..body.u16())
                .map(|_| column(&mut body))
                .collect::<Vec<_>>();
            columns.join(" ")
        }
        b'V' => body.value(),
        b'Z' => char::from(frame.body[0]).to_string(),
        b'd' => quoted(&frame.body),
        b't' => {
            let types: Vec<_> = (0..body.u16()).map(|_| body.u32()).collect();
            format!("{types:?}")
        }
        b'v' => {
            let version = format!("{}.{}", body.u16(), body.u16());
            let options = (0..body.u32()).map(|_| body.text());
            let words: Vec<_> = std::iter::once(version).chain(options).collect();
            words.join(" ")
        }
        _ => unreachable!("name() knows all"),
    }
}

/// Fields by their letter, but for file, line, routine and context, which tell of one server's
/// source, and the severity in the server's language.
fn error(frame: &Frame) -> String {
    let fields = frame.fields();
    let shown = fields
        .iter()
        .filter(|(letter, _)| !"FLRWS".contains(**letter));
    let shown: Vec<_> = shown
        .map(|(letter, text)| format!("{letter}={}", quoted(text.as_bytes())))
        .collect();
    shown.join(" ")
}

/// `name:type` with what is not usual: a binary format.
fn column(body: &mut Reader<'_>) -> String {
    let name = body.text();
    let _table = body.u32();
    let attribute = body.u16();
    let oid = body.u32();
    let (size, modifier) = (body.u16() as i16, body.u32() as i32);
    let format = body.u16();
    format!("{name}({attribute} {oid} {size} {modifier} {format})")
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let text = String::from_utf8_lossy(self.take(end)).into_owned();
        self.take(1);
        text
    }

    fn value(&mut self) -> String {
        match self.u32() {
            u32::MAX => "null".to_owned(),
            len => quoted(self.take(len as usize)),
        }
    }
}

/// In quotes if it is printable, else in hexadecimal digits.
fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !"\n\t".contains(c)) => {
            format!("{text:?}")
        }
        _ => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x\"{digits}\"")
        }
    }
}
