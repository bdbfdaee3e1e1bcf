//! A SELECT over several shards: what each shard runs, and how the answers become one.

mod first;
mod grouped;
mod rows;
mod types;

pub(super) use self::first::first_rows;
pub(super) use self::grouped::is_aggregate;

use std::ops::{ControlFlow, Range};

use sqlparser::ast::{
    Distinct, Expr, FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectNamePart,
    OrderByExpr, OrderByKind, OrderBySort, Query, Select, SelectItem, Value, WindowType,
    visit_expressions,
};

use super::facts::{Input, is_object_name};
use super::functions;
use super::keys::{Clauses, without_parentheses};
use super::layout::Layout;
use super::refuse;
use super::scope::{folded, object_name};
use super::values::{self, TypedParams};
use crate::catalog::{KeyType, TableColumn};
use crate::key::oid;
use crate::lexer::Kind;
use crate::merge::{Collation, Column, MergePlan, SortKey};
use crate::plan::Scatter;
use crate::refusal::Refusal;
use crate::route::{TextPiece, ValueRef};

/// One SELECT, read twice: as sqlparser's tree and as clauses of the text.
struct Shards<'a> {
    select: &'a Select,
    group: &'a [Expr],
    order: &'a [OrderByExpr],
    layout: &'a Layout,
    clauses: &'a Clauses<'a>,
    input: Input<'a>,
    /// Calls a function that gives another value each time.
    volatile: bool,
    /// Columns to add at the end of the select list.
    hidden: Vec<Vec<TextPiece>>,
    /// A column has to be compared or added up whose type is not known here.
    doubtful: bool,
}

/// No query of PostgreSQL's has more columns (MaxTupleAttributeNumber). Each is compared with the others
/// here, so that there has to be an end.
const MOST_ENTRIES: usize = 1664;

/// LIMIT and OFFSET.
struct Bounds {
    limit: Option<ValueRef>,
    offset: Option<ValueRef>,
}

/// Plans the merge of `select`, whose sharded tables are joined on their keys.
pub(super) fn plan(
    query: &Query,
    select: &Select,
    clauses: &Clauses<'_>,
    volatile: bool,
    input: Input<'_>,
) -> Result<Scatter, Refusal> {
    if !input.parsed.merges {
        return Err(refuse::not_rewritten());
    }
    let (group, order) = lists(query, select)?;
    let layout = Layout::of(input.source).ok_or_else(refuse::not_rewritten)?;
    let agrees = !select.projection.is_empty()
        && layout.items.len() == select.projection.len()
        && layout.order.as_ref().map_or(0, |list| list.items.len()) == order.len()
        && layout.group.as_ref().map_or(0, |list| list.items.len()) == group.len();
    let longest = select.projection.len().max(group.len()).max(order.len());
    if !agrees || longest > MOST_ENTRIES {
        return Err(refuse::not_rewritten());
    }
    let bounds = bounds(query, input)?;
    let mut shards = Shards {
        select,
        group,
        order,
        layout: &layout,
        clauses,
        input,
        volatile,
        hidden: vec![],
        doubtful: false,
    };
    if group.iter().any(|expr| shards.is_unclear(expr)) {
        return Err(refuse::not_grouped());
    }
    let whole_groups = clauses.hold_key(group.iter().map(|expr| shards.group_expr(expr)));
    let grouped = !group.is_empty() || select.having.is_some() || shards.uses_aggregate();
    if shards.uses_window_across() || (shards.uses_window() && grouped && !whole_groups) {
        return Err(refuse::not_one_shard("a window function"));
    }
    match &select.distinct {
        Some(Distinct::On(_)) => Err(refuse::not_one_shard("DISTINCT ON")),
        Some(Distinct::Distinct) if shards.selects_key() => shards.rows(&bounds),
        Some(Distinct::Distinct) if grouped => Err(refuse::not_one_shard("DISTINCT with GROUP BY")),
        Some(Distinct::Distinct) => shards.distinct(bounds),
        Some(Distinct::All) | None if grouped && !whole_groups => shards.grouped(bounds),
        Some(Distinct::All) | None => shards.rows(&bounds),
    }
}

/// The GROUP BY and ORDER BY lists, of a query without parts that are not known here.
fn lists<'q>(
    query: &'q Query,
    select: &'q Select,
) -> Result<(&'q [Expr], &'q [OrderByExpr]), Refusal> {
    let group = match &select.group_by {
        GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs.as_slice(),
        GroupByExpr::Expressions(..) | GroupByExpr::All(_) => {
            return Err(refuse::not_one_shard("this kind of GROUP BY"));
        }
    };
    let sets = |expr: &Expr| {
        matches!(
            expr,
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)
        )
    };
    if group
        .iter()
        .any(|expr| sets(expr) || matches!(expr, Expr::Tuple(_)))
    {
        return Err(refuse::not_one_shard("this kind of GROUP BY"));
    }
    let order = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(exprs)) => exprs.as_slice(),
        Some(OrderByKind::All(_)) => return Err(refuse::not_rewritten()),
        None => &[],
    };
    let plain = select.into.is_none() && select.named_window.is_empty() && select.qualify.is_none();
    if plain {
        Ok((group, order))
    } else {
        Err(refuse::not_one_shard("a query of this kind"))
    }
}

fn bounds(query: &Query, input: Input<'_>) -> Result<Bounds, Refusal> {
    let value = |expr: &Expr| {
        values::value(expr, KeyType::Int8, &TypedParams::default(), input)
            .ok_or_else(refuse::limit_value)
    };
    let (limit, offset) = match &query.limit_clause {
        None => (None, None),
        Some(LimitClause::LimitOffset {
            limit,
            offset,
            limit_by,
        }) if limit_by.is_empty() => (limit.as_ref(), offset.as_ref().map(|offset| &offset.value)),
        Some(LimitClause::LimitOffset { .. } | LimitClause::OffsetCommaLimit { .. }) => {
            return Err(refuse::not_rewritten());
        }
    };
    let limit = match (&query.fetch, limit) {
        (None, limit) => limit.map(value).transpose()?,
        (Some(fetch), None) if !fetch.with_ties && !fetch.percent => match &fetch.quantity {
            Some(quantity) => Some(value(quantity)?),
            None => Some(ValueRef::Text("1".into())),
        },
        (Some(_), _) => return Err(refuse::not_one_shard("FETCH of this kind")),
    };
    Ok(Bounds {
        limit,
        offset: offset.map(value).transpose()?,
    })
}

impl<'a> Shards<'a> {
    /// Adds a hidden column.
    fn hide(&mut self, text: Vec<TextPiece>) -> Column {
        self.hidden.push(text);
        Column::Hidden(self.hidden.len() - 1)
    }

    /// The text of some tokens.
    fn original(&self, tokens: Range<usize>) -> TextPiece {
        let source = self.input.source;
        let all = &source.tokens;
        let start = all
            .get(tokens.start)
            .map_or(source.sql.len(), |token| token.range.start);
        let end = all
            .get(tokens.end.wrapping_sub(1))
            .map_or(start, |token| token.range.end);
        TextPiece::Original(source.shape_offset(start)..source.shape_offset(end.max(start)))
    }

    /// The tokens of select item `index` without its alias.
    fn item_tokens(&self, index: usize) -> Range<usize> {
        let tokens = self.layout.items[index].clone();
        match &self.select.projection[index] {
            SelectItem::ExprWithAlias { .. } | SelectItem::ExprWithAliases { .. } => {
                let end = tokens.end - 1;
                let with_as = self.input.source.is(end.wrapping_sub(1), "as");
                tokens.start..end - usize::from(with_as)
            }
            SelectItem::UnnamedExpr(_)
            | SelectItem::QualifiedWildcard(..)
            | SelectItem::Wildcard(_) => tokens,
        }
    }

    /// The tokens of ORDER BY item `index` without direction and place of NULLs.
    fn order_tokens(&self, index: usize) -> Range<usize> {
        let Some(list) = &self.layout.order else {
            return 0..0;
        };
        let tokens = list.items[index].clone();
        let options = &self.order[index].options;
        let words =
            usize::from(options.sort.is_some()) + 2 * usize::from(options.nulls_first.is_some());
        tokens.start..tokens.end.saturating_sub(words).max(tokens.start)
    }

    /// The expression of select item `index`.
    fn item(&self, index: usize) -> Option<&'a Expr> {
        match self.select.projection.get(index)? {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            SelectItem::ExprWithAliases { .. }
            | SelectItem::QualifiedWildcard(..)
            | SelectItem::Wildcard(_) => None,
        }
    }

    /// Where select item `index` stands in the shards' rows; unknown behind a `*`.
    fn item_column(&self, index: usize) -> Option<Column> {
        let known = (0..=index).all(|before| self.item(before).is_some());
        known.then_some(Column::FromStart(index))
    }

    /// The select item with this output name.
    ///
    /// # Errors
    /// No item is known to have it, and the name of some item is not known.
    fn item_named(&self, name: &Ident) -> Result<Option<usize>, Refusal> {
        let name = folded(name);
        let mut unclear = false;
        for (index, item) in self.select.projection.iter().enumerate() {
            let output = match item {
                SelectItem::ExprWithAlias { alias, .. } => OutputName::Is(folded(alias)),
                SelectItem::UnnamedExpr(expr) => OutputName::of(expr),
                // Its names are those of input columns.
                SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => OutputName::None,
                SelectItem::ExprWithAliases { .. } => OutputName::Unclear,
            };
            match output {
                OutputName::Is(output) if output == name => return Ok(Some(index)),
                OutputName::Is(_) | OutputName::None => {}
                OutputName::Unclear => unclear = true,
            }
        }
        if unclear {
            Err(refuse::output_name(&name))
        } else {
            Ok(None)
        }
    }

    /// The select item that `expr` repeats.
    fn item_equal(&self, expr: &Expr) -> Option<usize> {
        (0..self.select.projection.len()).find(|index| {
            self.item(*index)
                .is_some_and(|item| self.are_equal(item, expr))
        })
    }

    /// Same column, or same text without literals: those differ between texts of one shape.
    fn are_equal(&self, a: &Expr, b: &Expr) -> bool {
        let (a, b) = (without_parentheses(a), without_parentheses(b));
        match (self.clauses.scope.column(a), self.clauses.scope.column(b)) {
            (Some(a), Some(b)) => a == b,
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => a == b && !holds_literal(a),
        }
    }

    /// What a GROUP BY item means: a select item by position, an input column, or an output name.
    fn group_expr<'e>(&self, expr: &'e Expr) -> &'e Expr
    where
        'a: 'e,
    {
        let item = self.group_item(expr).ok().flatten();
        item.and_then(|index| self.item(index)).unwrap_or(expr)
    }

    /// The select item that a GROUP BY item names by position or output name.
    fn group_item(&self, expr: &Expr) -> Result<Option<usize>, Refusal> {
        match without_parentheses(expr) {
            Expr::Identifier(name) if self.clauses.scope.column(expr).is_none() => {
                self.item_named(name)
            }
            other => Ok(ordinal(other)),
        }
    }

    /// Could a bare name in GROUP BY be a column that is not known here? It would come before an
    /// output name.
    fn is_unclear(&self, expr: &Expr) -> bool {
        let scope = &self.clauses.scope;
        matches!(without_parentheses(expr), Expr::Identifier(_))
            && scope.column(expr).is_none()
            && scope
                .references
                .iter()
                .any(|reference| reference.table.is_none())
    }

    fn direction(
        &self,
        index: usize,
        column: Column,
        collation: Collation,
    ) -> Result<SortKey, Refusal> {
        let options = &self.order[index].options;
        let descending = match &options.sort {
            Some(OrderBySort::Desc) => true,
            Some(OrderBySort::Asc) | None => false,
            Some(OrderBySort::Using(_)) => return Err(refuse::not_one_shard("ORDER BY USING")),
        };
        let nulls_first = options.nulls_first.unwrap_or(descending);
        Ok(SortKey {
            column,
            descending,
            nulls_first,
            collation,
        })
    }

    /// How the values of `expr` sort.
    ///
    /// # Errors
    /// A text column whose order is known not to be that of its bytes, or a type without a known
    /// order.
    fn sort_collation(&mut self, expr: &Expr) -> Result<Collation, Refusal> {
        let expr = without_parentheses(expr);
        self.is_alike_everywhere(expr)?;
        if let Expr::Collate { collation, .. } = expr {
            let name = match collation.0.last() {
                Some(ObjectNamePart::Identifier(ident)) => folded(ident),
                Some(ObjectNamePart::Function(_)) | None => String::new(),
            };
            return match name.as_str() {
                "C" | "POSIX" | "ucs_basic" => Ok(Collation::Bytewise),
                _ => Err(refuse::order_of_text("this")),
            };
        }
        match self.known_column(expr) {
            Some(column) if !types::has_order(column.type_oid) => {
                Err(refuse::order_of_type(&column.name))
            }
            Some(column) if !is_text(column.type_oid) => Ok(Collation::Bytewise),
            Some(column) if column.collation != Collation::Bytewise => {
                Err(refuse::order_of_text(&column.name))
            }
            Some(column) => Ok(column.collation),
            None => {
                self.doubtful = true;
                Ok(Collation::Unknown)
            }
        }
    }

    /// The column of the catalog that `expr` is.
    fn known_column(&self, expr: &Expr) -> Option<&'a TableColumn> {
        let scope = &self.clauses.scope;
        let (reference, name) = scope.column(without_parentheses(expr))?;
        let table = scope.references[reference].table?;
        table.columns.iter().find(|column| column.name == name)
    }

    /// May rows be grouped by the text of `expr`?
    ///
    /// # Errors
    /// A type whose equality is not known here.
    fn group_collation(&mut self, expr: &Expr) -> Result<Collation, Refusal> {
        self.is_alike_everywhere(expr)?;
        match self.known_column(expr) {
            Some(column) if !types::has_equality(column.type_oid) => {
                Err(refuse::order_of_type(&column.name))
            }
            Some(column) if is_text(column.type_oid) => match column.collation {
                Collation::Bytewise | Collation::Other => Ok(Collation::Bytewise),
                Collation::Unknown => Err(refuse::order_of_text(&column.name)),
            },
            Some(column) if has_one_text(column.type_oid) => Ok(Collation::Bytewise),
            Some(_) => Ok(Collation::Unknown),
            None => {
                self.doubtful = true;
                match self.input.catalog.suspects.equates_texts {
                    true => Ok(Collation::Other),
                    false => Ok(Collation::Unknown),
                }
            }
        }
    }

    /// # Errors
    /// A value that is one for all rows of one PostgreSQL, and another one on each shard.
    fn is_alike_everywhere(&self, expr: &Expr) -> Result<(), Refusal> {
        let catalog = self.input.catalog;
        let (mut differs, mut of_row, mut of_server) = (false, false, false);
        let _: ControlFlow<()> = visit_expressions(expr, |part| {
            match part {
                Expr::Identifier(name) if self.known_column(part).is_none() => {
                    of_server |= folded(name) == "tableoid";
                    of_row = true;
                }
                Expr::CompoundIdentifier(names) if self.known_column(part).is_none() => {
                    of_server |= names.last().is_some_and(|name| folded(name) == "tableoid");
                    of_row = true;
                }
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => of_row = true,
                Expr::Function(call) => {
                    let (_, name) = object_name(&call.name).unwrap_or_default();
                    differs |= match &call.args {
                        FunctionArguments::None => functions::tells_time(&name),
                        FunctionArguments::List(_) | FunctionArguments::Subquery(_) => {
                            functions::is_each_servers_own(&name, catalog)
                        }
                    };
                }
                Expr::Cast { data_type, .. } => differs |= is_object_name(data_type),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        match of_server || (differs && !of_row) {
            true => Err(refuse::not_one_shard(
                "a value that each shard has of its own",
            )),
            false => Ok(()),
        }
    }

    /// Is a sharding key among the output columns, so that no two shards give equal rows?
    fn selects_key(&self) -> bool {
        let items = &self.select.projection;
        let stars = items
            .iter()
            .any(|item| matches!(item, SelectItem::Wildcard(_)));
        (stars && self.clauses.always_has_key())
            || self
                .clauses
                .hold_key((0..items.len()).filter_map(|index| self.item(index)))
    }

    fn uses_window(&self) -> bool {
        self.any_expr(&|expr| matches!(expr, Expr::Function(function) if function.over.is_some()))
    }

    /// Is there a window that is not within one value of the key?
    fn uses_window_across(&self) -> bool {
        self.any_expr(&|expr| match expr {
            Expr::Function(function) => match &function.over {
                Some(WindowType::WindowSpec(window)) => {
                    let keyed = self.clauses.hold_key(&window.partition_by);
                    !keyed || window.window_name.is_some()
                }
                Some(WindowType::NamedWindow(_)) => true,
                None => false,
            },
            // Windows inside have scopes of their own.
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => self.uses_window(),
            _ => false,
        })
    }

    fn uses_aggregate(&self) -> bool {
        self.any_expr(&|expr| grouped::is_aggregate(expr, self.input.catalog))
    }

    /// Does any expression of the select list, HAVING or ORDER BY, or part of one, satisfy `test`?
    fn any_expr(&self, test: &dyn Fn(&Expr) -> bool) -> bool {
        let found = |expr: &Expr| {
            let visited = visit_expressions(expr, |part| match test(part) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
            visited.is_break()
        };
        (0..self.select.projection.len())
            .filter_map(|index| self.item(index))
            .any(found)
            || self.select.having.iter().any(found)
            || self.order.iter().any(|order| found(&order.expr))
    }

    /// The text for the shards: hidden columns added, `replaced` token ranges replaced, which are
    /// in ascending order and behind the select list.
    fn rewrite(&self, replaced: Vec<(Range<usize>, Vec<TextPiece>)>) -> Option<Vec<TextPiece>> {
        if self.hidden.is_empty() && replaced.is_empty() {
            return None;
        }
        let mut pieces = Vec::new();
        let items_end = self.layout.items.last().map_or(1, |item| item.end);
        let mut from = 0;
        if !self.hidden.is_empty() {
            pieces.push(self.between(from, Some(items_end)));
            for (index, text) in self.hidden.iter().enumerate() {
                pieces.push(TextPiece::Added(", (".into()));
                pieces.extend(text.iter().cloned());
                pieces.push(TextPiece::Added(format!(") AS ringway_{}", index + 1)));
            }
            from = self.token_end(items_end);
        }
        for (range, text) in replaced {
            let source = self.input.source;
            let start = source.shape_offset(source.tokens[range.start].range.start);
            pieces.push(TextPiece::Original(from..start));
            pieces.extend(text);
            from = self.token_end(range.end);
        }
        pieces.push(self.between(from, None));
        Some(pieces)
    }

    /// What stands for LIMIT and OFFSET where a shard gives all its rows. Their parameters must be
    /// mentioned still, since the client binds them: CASE without ELSE is NULL, no limit.
    fn without_bounds(&self) -> Vec<TextPiece> {
        let source = self.input.source;
        let range = self.layout.bounds.clone().unwrap_or(0..0);
        let params = range.filter(|index| source.tokens[*index].kind == Kind::Param);
        let mut pieces = Vec::new();
        for index in params {
            let joint = if pieces.is_empty() {
                "LIMIT CASE WHEN "
            } else {
                " OR "
            };
            pieces.push(TextPiece::Added(format!("{joint}(")));
            pieces.push(self.original(index..index + 1));
            pieces.push(TextPiece::Added(")::bigint IS NULL".into()));
        }
        if !pieces.is_empty() {
            pieces.push(TextPiece::Added(" THEN NULL::bigint END".into()));
        }
        pieces
    }

    /// Where token `index - 1` ends.
    fn token_end(&self, index: usize) -> usize {
        let source = self.input.source;
        let token = source.tokens.get(index.wrapping_sub(1));
        source.shape_offset(token.map_or(source.sql.len(), |token| token.range.end))
    }

    /// From `from` to the end of token `to - 1`, or of the text.
    fn between(&self, from: usize, to: Option<usize>) -> TextPiece {
        let end = to.map_or_else(
            || self.input.source.shape_offset(self.input.source.sql.len()),
            |to| self.token_end(to),
        );
        TextPiece::Original(from..end)
    }

    fn finish(&self, merge: MergePlan, replaced: Vec<(Range<usize>, Vec<TextPiece>)>) -> Scatter {
        let merge = MergePlan {
            hidden: self.hidden.len(),
            ..merge
        };
        Scatter {
            merge,
            rewrite: self.rewrite(replaced),
            otherwise: None,
            doubtful: self.doubtful,
        }
    }
}

/// The name that PostgreSQL gives to an output column without AS (`FigureColname`).
enum OutputName {
    Is(String),
    /// `?column?`, which no bare name means.
    None,
    Unclear,
}

impl OutputName {
    fn of(expr: &Expr) -> Self {
        match expr {
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => Self::of(inner),
            Expr::Identifier(ident) => Self::Is(folded(ident)),
            Expr::CompoundIdentifier(idents) => idents
                .last()
                .map_or(Self::Unclear, |ident| Self::Is(folded(ident))),
            Expr::Function(function) => match function.name.0.last() {
                Some(ObjectNamePart::Identifier(ident)) => Self::Is(folded(ident)),
                Some(ObjectNamePart::Function(_)) | None => Self::Unclear,
            },
            Expr::Cast { expr, .. } => match Self::of(expr) {
                Self::Is(name) => Self::Is(name),
                // The type's internal name.
                Self::None | Self::Unclear => Self::Unclear,
            },
            Expr::BinaryOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::InList { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. } => Self::None,
            Expr::Value(constant) if !matches!(constant.value, Value::Boolean(_)) => Self::None,
            _ => Self::Unclear,
        }
    }
}

/// `3` as an item of ORDER BY or GROUP BY is 2. Such numbers are never lifted.
fn ordinal(expr: &Expr) -> Option<usize> {
    match without_parentheses(expr) {
        Expr::Value(constant) => match &constant.value {
            Value::Number(digits, _) => digits.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}

fn holds_literal(expr: &Expr) -> bool {
    let visited = visit_expressions(expr, |part| match part {
        Expr::Value(_)
        | Expr::TypedString(_)
        | Expr::Interval(_)
        | Expr::Subquery(_)
        | Expr::Exists { .. }
        | Expr::InSubquery { .. } => ControlFlow::Break(()),
        Expr::Function(function) if matches!(function.args, FunctionArguments::Subquery(_)) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    visited.is_break()
}

fn is_text(type_oid: u32) -> bool {
    const BPCHAR: u32 = 1042;
    matches!(type_oid, oid::TEXT | oid::VARCHAR | BPCHAR)
}

/// Types whose equal values are always written alike: bool, integers, oid, uuid, date, timestamps.
fn has_one_text(type_oid: u32) -> bool {
    matches!(
        type_oid,
        16 | oid::INT2 | oid::INT4 | oid::INT8 | 26 | oid::UUID | 1082 | 1114 | 1184
    )
}
