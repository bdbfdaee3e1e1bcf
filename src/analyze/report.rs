//! The labels as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::label::{Class, Group};

/// What was read, for the first lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Read {
    /// Statements of other databases.
    pub elsewhere: u64,
    /// Statements of shapes that were too many to keep.
    pub beyond: u64,
}

/// Shares by calls and by shape, then the shapes of each class, the worst class first; `top` of each, 0 is all.
pub fn report(database: &str, groups: &[Group], read: Read, top: usize) -> String {
    let mut out = String::new();
    let totals = totals(groups);
    let counted = |(class, _): &(&Class, &(u64, usize))| **class != Class::Session;
    let calls: u64 = totals
        .iter()
        .filter(counted)
        .map(|(_, (calls, _))| calls)
        .sum();
    let shapes: usize = totals
        .iter()
        .filter(counted)
        .map(|(_, (_, shapes))| shapes)
        .sum();
    let _ = writeln!(out, "database {database}: {calls} calls of {shapes} shapes");
    for (class, meaning) in Class::ALL.map(|class| (class, class.meaning())) {
        let Some((of_calls, of_shapes)) = totals.get(&class) else {
            continue;
        };
        let shares = match class {
            Class::Session => format!("{:>7} {:>15}", "", ""),
            _ => format!(
                "{:>6.1} % {:>6} shapes",
                percent(*of_calls, calls),
                of_shapes
            ),
        };
        let _ = writeln!(
            out,
            "{:<10} {of_calls:>10} {shares}  {meaning}",
            class.name()
        );
    }
    if read.elsewhere > 0 {
        let _ = writeln!(
            out,
            "{} statements of other databases were left out",
            read.elsewhere
        );
    }
    if read.beyond > 0 {
        let _ = writeln!(
            out,
            "{} statements of further shapes were not looked at",
            read.beyond
        );
    }
    for class in Class::ALL
        .into_iter()
        .filter(|class| *class != Class::Session)
    {
        let mut of_class: Vec<_> = groups
            .iter()
            .filter_map(|group| Some((group, group.classes.get(&class)?)))
            .collect();
        of_class.sort_by_key(|(_, (calls, _))| std::cmp::Reverse(*calls));
        if of_class.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{}", class.name());
        let shown = if top == 0 { of_class.len() } else { top };
        for (group, (of_calls, why)) in of_class.iter().take(shown) {
            let sql = one_line(&group.sample.sql);
            let _ = writeln!(
                out,
                "{of_calls:>10} {:>5.1} %  {sql}",
                percent(*of_calls, calls)
            );
            let _ = writeln!(out, "{:>20}{}", "", one_line(why));
        }
        if of_class.len() > shown {
            let _ = writeln!(out, "{:>20}and {} shapes more", "", of_class.len() - shown);
        }
    }
    out
}

/// Calls and shapes by class.
pub(super) fn totals(groups: &[Group]) -> BTreeMap<Class, (u64, usize)> {
    let mut totals = BTreeMap::new();
    for (class, (calls, _)) in groups.iter().flat_map(|group| &group.classes) {
        let total: &mut (u64, usize) = totals.entry(*class).or_default();
        total.0 += calls;
        total.1 += 1;
    }
    totals
}

pub(super) fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 * 100.0 / whole as f64,
    }
}

/// Cut where it is longer than a screen is wide twice.
fn one_line(text: &str) -> String {
    const MOST: usize = 200;
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{} …", &line[..at]),
        None => line,
    }
}
