//! Records of comma-separated values as PostgreSQL writes them (RFC 4180).

use std::io::{self, BufRead};

/// Reads one record into `fields`; false at the end. A field in quotes may hold line ends. Bytes that
/// are no UTF-8 are replaced.
pub(super) fn record(input: &mut dyn BufRead, fields: &mut Vec<String>) -> io::Result<bool> {
    fields.clear();
    let mut raw = Vec::new();
    loop {
        let more = input.read_until(b'\n', &mut raw)?;
        if more == 0 {
            break;
        }
        // Quotes come in pairs, also doubled ones.
        let quotes = raw.iter().filter(|byte| **byte == b'"').count();
        if quotes.is_multiple_of(2) {
            break;
        }
    }
    if raw.is_empty() {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&raw);
    split(text.trim_end_matches(['\n', '\r']), fields);
    Ok(true)
}

fn split(text: &str, fields: &mut Vec<String>) {
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => fields.push(std::mem::take(&mut field)),
            (other, _) => field.push(other),
        }
    }
    fields.push(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas_lines_and_quotes() {
        let mut input = "a,\"b,\"\"c\"\"\nd\",\n,x\r\n".as_bytes();
        let mut fields = Vec::new();
        assert!(record(&mut input, &mut fields).unwrap());
        assert_eq!(fields, ["a", "b,\"c\"\nd", ""]);
        assert!(record(&mut input, &mut fields).unwrap());
        assert_eq!(fields, ["", "x"]);
        assert!(!record(&mut input, &mut fields).unwrap());
    }
}
