//! Takes the tour through Ringway and through one plain PostgreSQL with the same rows, and
//! compares what they answer.

use super::answer::{Answer, Protocol, ask};
use super::captive::Server;
use super::proxy::Proxy;
use super::tour::{self, Block, Expect, Statement};
use super::{Error, print, shop};

/// What became of one block in one protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// Refused, as it must or may be.
    Refused,
    /// The first statement that was answered otherwise, and the two answers in a few words.
    Differs {
        sql: String,
        ringway: String,
        plain: String,
    },
}

/// Compares one block, statement by statement, on two connections. The plain server does not see
/// what must be refused. A difference does not end the block: its last statements clean up.
pub async fn compare(
    ringway: &tokio_postgres::Client,
    plain: &tokio_postgres::Client,
    block: &Block,
    protocol: Protocol,
) -> Verdict {
    let mut verdict = Verdict::Same;
    for statement in std::iter::repeat_n(&block.statements, block.repeat).flatten() {
        let got = ask(ringway, statement, protocol).await;
        let found = match block.expect {
            Expect::Same | Expect::SameOrRefused => {
                let wanted = ask(plain, statement, protocol).await;
                if block.expect == Expect::SameOrRefused && got.is_refusal() {
                    Verdict::Refused
                } else if same(got.clone(), wanted.clone(), block.ordered) {
                    Verdict::Same
                } else {
                    differs(statement, &got, &wanted.summary())
                }
            }
            Expect::Refused if got.is_refusal() => Verdict::Refused,
            Expect::Refused => differs(statement, &got, "0A000 with detail and hint"),
        };
        verdict = verdict.and(found);
    }
    verdict
}

impl Verdict {
    /// The graver of two; the first of two differences.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (first @ Self::Differs { .. }, _) => first,
            (_, second @ Self::Differs { .. }) => second,
            (Self::Refused, _) | (_, Self::Refused) => Self::Refused,
            (Self::Same, Self::Same) => Self::Same,
        }
    }
}

fn same(got: Answer, wanted: Answer, ordered: bool) -> bool {
    match (&got, &wanted) {
        // Where an error came from shows in its detail, which may well be fuller here.
        (
            Answer::Failed { code, message, .. },
            Answer::Failed {
                code: c,
                message: m,
                ..
            },
        ) => code == c && message == m,
        _ if ordered => got == wanted,
        _ => got.unordered() == wanted.unordered(),
    }
}

fn differs(statement: &Statement, got: &Answer, plain: &str) -> Verdict {
    Verdict::Differs {
        sql: statement.sql.clone(),
        ringway: got.summary(),
        plain: plain.to_owned(),
    }
}

/// Takes the shop's tour in both protocols and prints a line per block.
pub(super) async fn run(proxy: &Proxy, plain: &Server) -> Result<(), Error> {
    let blocks = tour::parse(tour::SHOP).map_err(Error::Tour)?;
    let through = shop::url(proxy.port, shop::DATABASE).parse()?;
    let mut ringway = shop::connect(&through).await?;
    let plain = shop::connect(&shop::url(plain.port, shop::DATABASE).parse()?).await?;
    print(format_args!("\n{:58} {:10} extended", "", "simple"));
    let mut different = 0;
    for block in &blocks {
        if ringway.is_closed() {
            ringway = shop::connect(&through).await?;
        }
        // Both protocols see the same rows because every block leaves them as they were.
        let simple = compare(&ringway, &plain, block, Protocol::Simple).await;
        let extended = compare(&ringway, &plain, block, Protocol::Extended).await;
        print(format_args!(
            "{:58} {:10} {}",
            block.title,
            word(&simple),
            word(&extended)
        ));
        let verdicts = [("simple", simple), ("extended", extended)];
        let explained = verdicts
            .iter()
            .filter(|(protocol, verdict)| explain(protocol, verdict));
        different += usize::from(explained.count() > 0);
    }
    print(format_args!(
        "\n{} blocks, {different} differ",
        blocks.len()
    ));
    if different > 0 {
        Err(Error::Differs { blocks: different })
    } else {
        Ok(())
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Same => "same",
        Verdict::Refused => "refused",
        Verdict::Differs { .. } => "DIFFERS",
    }
}

/// Prints a difference; answers whether there was one.
fn explain(protocol: &str, verdict: &Verdict) -> bool {
    let Verdict::Differs {
        sql,
        ringway,
        plain,
    } = verdict
    else {
        return false;
    };
    print(format_args!(
        "    {protocol}: {}",
        sql.replace('\n', "\n        ")
    ));
    print(format_args!("        ringway:    {ringway}"));
    print(format_args!("        PostgreSQL: {plain}"));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&str]) -> Answer {
        let rows = texts
            .iter()
            .map(|text| vec![Some(text.as_bytes().to_vec())])
            .collect();
        Answer::Rows {
            columns: vec![("a".to_owned(), 25)],
            rows,
        }
    }

    #[test]
    fn order_counts_where_it_is_fixed() {
        assert!(same(rows(&["1", "2"]), rows(&["2", "1"]), false));
        assert!(!same(rows(&["1", "2"]), rows(&["2", "1"]), true));
        assert!(
            !same(rows(&["1", "1"]), rows(&["1"]), false),
            "duplicates count"
        );
    }

    #[test]
    fn errors_are_compared_by_code_and_message() {
        let failed = |message: &str, detail| Answer::Failed {
            code: "23505".to_owned(),
            message: message.to_owned(),
            detail,
            hint: false,
        };
        assert!(same(
            failed("duplicate", true),
            failed("duplicate", false),
            true
        ));
        assert!(!same(
            failed("duplicate", true),
            failed("other", true),
            true
        ));
        assert!(!same(failed("duplicate", true), rows(&[]), true));
    }
}
