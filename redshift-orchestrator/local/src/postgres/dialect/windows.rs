//! Translates window functions that PostgreSQL lacks, or does not allow with OVER, to aggregates.

use std::{borrow::Cow, ops::Range};

use super::{
    Piece, Reader,
    names::{is, top_level},
    refusal::refused,
};
use redshift_orchestrator::sql::Token;

/// Returns `true` if `OVER` follows the call that ends before `behind`.
pub(super) fn is_windowed(reader: Reader<'_, '_>, behind: usize, end: usize) -> bool {
    let group = reader.words(behind, end, &["WITHIN", "GROUP"]).and_then(|group| reader.list(group, end));
    let behind = group.map_or(behind, |(_, behind)| behind);
    reader.words(behind, end, &["OVER"]).is_some()
}

/// Functions whose window must have a frame if it has an order.
const FRAMED: [&str; 14] = [
    "AVG",
    "COUNT",
    "FIRST_VALUE",
    "LAST_VALUE",
    "MAX",
    "MIN",
    "NTH_VALUE",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "SUM",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
];

/// Returns `true` if the call at this position has a window with an order but without a frame, which Redshift
/// does not accept.
pub(super) fn lacks_frame(reader: Reader<'_, '_>, at: usize, end: usize) -> bool {
    let window = || {
        let (_, mut behind) = reader.list(at + 1, end)?;
        for words in [["IGNORE", "NULLS"], ["RESPECT", "NULLS"]] {
            behind = reader.words(behind, end, &words).unwrap_or(behind);
        }
        reader.list(reader.words(behind, end, &["OVER"])?, end)
    };
    is(reader.tokens[at], &FRAMED)
        && window().is_some_and(|(window, _)| {
            let has =
                |words: &[&str]| top_level(reader, window.clone()).any(|at| is(reader.tokens[at], words));
            has(&["ORDER"]) && !has(&["ROWS", "RANGE", "GROUPS"])
        })
}

/// Translates `LISTAGG(…) WITHIN GROUP (ORDER BY …) OVER (…)`. The order moves into the window, and the frame
/// is the whole partition. `over` is the text after `OVER`.
pub(super) fn list_agg<'a>(
    reader: Reader<'a, '_>,
    is_distinct: bool,
    [value, separator, order]: [&str; 3],
    over: Range<usize>,
) -> Result<Piece<'a>, String> {
    let Some((window, behind)) = reader.list(over.start, over.end).filter(|_| !is_distinct) else {
        let way_out = "compute LISTAGG with GROUP BY in a subquery, and join it";
        return Err(refused("LISTAGG (DISTINCT …) WITHIN GROUP … OVER", way_out));
    };
    let window = reader.expression(window)?;
    let text = format!(
        "STRING_AGG(CAST({value} AS text), {separator}) OVER ({window} {order} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    );
    Ok((Cow::Owned(text), behind))
}

/// Translates `RATIO_TO_REPORT(x) OVER (…)`, the ratio of a value to the sum over its window.
pub(super) fn ratio<'a>(
    reader: Reader<'a, '_>,
    list: Range<usize>,
    rest: Range<usize>,
) -> Result<Option<Piece<'a>>, String> {
    let Some(over) = reader.words(rest.start, rest.end, &["OVER"]) else { return Ok(None) };
    let Some((window, behind)) = reader.list(over, rest.end) else { return Ok(None) };
    let (value, window, library) = (reader.expression(list)?, reader.expression(window)?, reader.library);
    let text = format!(
        "(CAST({value} AS double precision) / NULLIF({library}.sum(CAST({value} AS double precision)) OVER ({window}), 0))"
    );
    Ok(Some((Cow::Owned(text), behind)))
}

/// Translates `MEDIAN(x)` and `PERCENTILE_CONT(f) WITHIN GROUP (ORDER BY x [DESC])` with `OVER`.
pub(super) fn percentile<'a>(
    reader: Reader<'a, '_>,
    list: Range<usize>,
    rest: Range<usize>,
) -> Result<Option<Piece<'a>>, String> {
    let library = reader.library;
    let Some(group) = reader.words(rest.start, rest.end, &["WITHIN", "GROUP"]) else {
        let text = format!("{library}.percentile_over(0.5, {})", reader.expression(list)?);
        return Ok(Some((Cow::Owned(text), rest.start)));
    };
    let Some((order, behind)) = reader.list(group, rest.end) else { return Ok(None) };
    let Some(begin) = reader.words(order.start, order.end, &["ORDER", "BY"]) else { return Ok(None) };
    let is = |at: &usize, words: &[&str]| matches!(reader.tokens[*at], Token::Word(word) if words.iter().any(|one| word.eq_ignore_ascii_case(one)));
    let fraction = reader.expression(list)?;
    let direction = (begin..order.end).rev().find(|at| !matches!(reader.tokens[*at], Token::Blank(_)));
    let direction = direction.filter(|at| is(at, &["ASC", "DESC"]));
    let value = reader.expression(begin..direction.unwrap_or(order.end))?;
    let fraction = match direction {
        Some(at) if is(&at, &["DESC"]) => format!("1 - ({fraction})"),
        _ => fraction,
    };
    Ok(Some((Cow::Owned(format!("{library}.percentile_over({fraction}, {value})")), behind)))
}

/// Translates `FIRST_VALUE` and `LAST_VALUE` with `IGNORE NULLS` inside or after the parentheses.
pub(super) fn filled<'a>(
    reader: Reader<'a, '_>,
    name: &str,
    list: Range<usize>,
    rest: Range<usize>,
) -> Result<Option<Piece<'a>>, String> {
    let within = list.clone().find(|at| {
        let behind = reader.words(*at, list.end, &["IGNORE", "NULLS"]);
        behind.is_some_and(|behind| reader.next(behind, list.end).is_none())
            && matches!(reader.tokens[*at], Token::Word(_))
    });
    let (value, behind) = match (within, reader.words(rest.start, rest.end, &["IGNORE", "NULLS"])) {
        (Some(at), _) => (list.start..at, rest.start),
        (None, Some(behind)) => (list, behind),
        (None, None) => return Ok(None),
    };
    let which = if name == "FIRST_VALUE" { "first_filled" } else { "last_filled" };
    let text = format!("{}.{which}({})", reader.library, reader.expression(value)?);
    Ok(Some((Cow::Owned(text), behind)))
}
