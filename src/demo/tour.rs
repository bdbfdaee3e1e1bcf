//! Reads the tour: a file of SQL in blocks, each with a title and what is expected.
//!
//! ```text
//! # a comment
//! [title] flags
//! SELECT name FROM customers WHERE id = $1;
//! with: 17
//! ```
//!
//! A statement ends with a semicolon at the end of a line. `with:` gives its parameters, parted by
//! `, `; a bare `NULL` is one. A line `\.` ends the data that follow a `COPY … FROM STDIN`.
//! Flags: `ordered` (the rows' order counts too), `refused` (must be refused with 0A000), `maybe`
//! (the same answer or refused with 0A000; for reads, as the plain server runs it), `repeat=N`.

/// The tour of the demo's shop.
pub const SHOP: &str = include_str!("tour.sql");

/// Statements that belong together, run in order on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub title: String,
    pub expect: Expect,
    /// Whether the order of rows is part of the answer.
    pub ordered: bool,
    pub repeat: usize,
    pub statements: Vec<Statement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Same,
    SameOrRefused,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub sql: String,
    /// In text; `None` is NULL.
    pub params: Vec<Option<String>>,
    /// What is sent to a COPY FROM STDIN.
    pub copy_data: Option<String>,
}

/// Reads a tour.
///
/// # Errors
/// Names the first line that makes no sense.
pub fn parse(text: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut sql = String::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let wrong = |what: &str| format!("tour, line {}: {what}: {line}", at + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            blocks.push(block(line).ok_or_else(|| wrong("not a block's title and flags"))?);
            continue;
        }
        let block = blocks
            .last_mut()
            .ok_or_else(|| wrong("before the first block"))?;
        if let Some(params) = line.strip_prefix("with: ") {
            let last = block
                .statements
                .last_mut()
                .ok_or_else(|| wrong("parameters of nothing"))?;
            last.params = params.split(", ").map(param).collect();
            continue;
        }
        sql.push_str(if sql.is_empty() { "" } else { "\n" });
        sql.push_str(line);
        if let Some(whole) = sql.strip_suffix(';') {
            let copies = whole.starts_with("COPY") && whole.contains("FROM STDIN");
            let copy_data = copies.then(|| {
                lines
                    .by_ref()
                    .map(|(_, l)| l)
                    .take_while(|l| *l != "\\.")
                    .map(|l| format!("{l}\n"))
                    .collect()
            });
            block.statements.push(Statement {
                sql: whole.to_owned(),
                params: Vec::new(),
                copy_data,
            });
            sql.clear();
        }
    }
    if !sql.is_empty() {
        return Err(format!("tour: no semicolon ends: {sql}"));
    }
    Ok(blocks)
}

fn block(line: &str) -> Option<Block> {
    let (title, flags) = line.strip_prefix('[')?.split_once(']')?;
    let mut block = Block {
        title: title.to_owned(),
        expect: Expect::Same,
        ordered: false,
        repeat: 1,
        statements: Vec::new(),
    };
    for flag in flags.split_whitespace() {
        match flag {
            "ordered" => block.ordered = true,
            "refused" => block.expect = Expect::Refused,
            "maybe" => block.expect = Expect::SameOrRefused,
            _ => block.repeat = flag.strip_prefix("repeat=")?.parse().ok()?,
        }
    }
    Some(block)
}

fn param(text: &str) -> Option<String> {
    (text != "NULL").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_flags_parameters_and_copy_data() {
        let text = "# about\n[one] ordered repeat=3\nSELECT\n$1, $2;\nwith: 17, NULL\n\
                    [two] maybe\nCOPY t FROM STDIN;\na\tb\n\\.\nSELECT 1;\n";
        let blocks = parse(text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert!(blocks[0].ordered);
        assert_eq!(blocks[0].repeat, 3);
        let select = &blocks[0].statements[0];
        assert_eq!(select.sql, "SELECT\n$1, $2");
        assert_eq!(select.params, [Some("17".to_owned()), None]);
        assert_eq!(blocks[1].expect, Expect::SameOrRefused);
        assert_eq!(blocks[1].statements[0].copy_data.as_deref(), Some("a\tb\n"));
        assert_eq!(blocks[1].statements[1].sql, "SELECT 1");
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line) in [
            ("SELECT 1;", "line 1"),
            ("[a]\nwith: 1", "line 2"),
            ("[a] sorted", "line 1"),
            ("\n[a", "line 2"),
            ("[a]\nSELECT 1", "no semicolon"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(line), "{message}");
        }
    }

    #[test]
    fn the_shop_tour_can_be_read() {
        let blocks = parse(SHOP).unwrap();
        assert!(
            blocks
                .iter()
                .all(|b| !b.statements.is_empty() && b.repeat > 0)
        );
        assert!(blocks.iter().any(|b| b.expect == Expect::Refused));
    }
}
