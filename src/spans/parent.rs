//! The span that a statement belongs to, by a comment in its text.

/// A W3C traceparent.
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    /// Who wrote it traces.
    pub sampled: bool,
}

/// As sqlcommenter writes it.
/// <https://google.github.io/sqlcommenter/spec/>
const KEY: &str = "traceparent='";

impl Parent {
    /// Of a comment such as `/*action='show',traceparent='00-…-…-01'*/`; `None` where there is none that
    /// can be read.
    pub fn of_comment(comment: &str) -> Option<Self> {
        let at = comment.find(KEY)?;
        let is_alone = |before: char| !before.is_ascii_alphanumeric() && before != '_';
        let before = comment[..at].chars().next_back();
        let value = comment[at + KEY.len()..].split('\'').next()?;
        before
            .is_none_or(is_alone)
            .then(|| Self::read(value))
            .flatten()
    }

    fn read(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let [version] = hex::<1>(parts.next()?)?;
        let trace = hex::<16>(parts.next()?)?;
        let span = hex::<8>(parts.next()?)?;
        let [flags] = hex::<1>(parts.next()?)?;
        // Later versions may add parts; 255 is none.
        let ends = parts.next().is_none() || version > 0;
        let is_one = version != 0xff && trace != [0; 16] && span != [0; 8] && ends;
        is_one.then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

/// Lower case, as the standard has it.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (pair, byte) in bytes.chunks_exact(2).zip(&mut out) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

    #[test]
    fn comments() {
        let of = |comment: &str| Parent::of_comment(comment);
        let parent = of(&format!("/*a='b',traceparent='00-{IDS}-01',z='1'*/")).unwrap();
        assert_eq!((parent.trace[0], parent.span[7]), (0x0a, 0x31));
        assert!(parent.sampled);
        assert!(
            !of(&format!("-- traceparent='00-{IDS}-00'"))
                .unwrap()
                .sampled
        );
        assert!(of(&format!("/*traceparent='01-{IDS}-01-more'*/")).is_some());
        let zero = "00000000000000000000000000000000-b7ad6b7169203331";
        for wrong in [
            "/* nothing */".to_owned(),
            format!("/*traceparent='00-{IDS}'*/"),
            format!("/*traceparent='00-{IDS}-01-more'*/"),
            format!("/*traceparent='ff-{IDS}-01'*/"),
            format!("/*traceparent='00-{zero}-01'*/"),
            format!("/*xtraceparent='00-{IDS}-01'*/"),
            format!("/*traceparent='00-{}-01'*/", IDS.to_uppercase()),
            "/*traceparent='".to_owned(),
            "/*traceparent='é'*/".to_owned(),
        ] {
            assert_eq!(of(&wrong), None, "{wrong}");
        }
    }
}
