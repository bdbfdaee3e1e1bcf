//! System columns that tell where a row lies on its server, or which of its transactions wrote it: another
//! shard has rows with the same values.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Visit, Visitor};

use super::keys::without_parentheses;
use super::scope::folded;

/// Does `part` compare such a column with anything but another one? Two rows of one shard may be told apart by
/// them: `a.ctid < b.ctid`.
pub(super) fn compares(part: &impl Visit) -> bool {
    let mut walk = Walk::default();
    let _: ControlFlow<()> = part.visit(&mut walk);
    walk.mentions > walk.among_themselves
}

#[derive(Default)]
struct Walk {
    mentions: usize,
    among_themselves: usize,
}

impl Visitor for Walk {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.mentions += usize::from(is_physical(expr));
        if let Expr::BinaryOp { left, right, .. } = expr
            && is_physical(without_parentheses(left))
            && is_physical(without_parentheses(right))
        {
            self.among_themselves += 2;
        }
        ControlFlow::Continue(())
    }
}

fn is_physical(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    let is_it = |name: String| matches!(&*name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax");
    name.map(folded).is_some_and(is_it)
}
