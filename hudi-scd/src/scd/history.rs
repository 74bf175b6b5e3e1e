//! The history of one key, as a set of changes and as rows, and the conversions between them. This module
//! does not use Arrow.

/// A row of a key's history. `S` is a state, which can be compared for equality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row<S> {
    pub(super) valid_from: i64,
    /// Exclusive. `None` if the row is still valid. Equal to `valid_from` in the row of a delete.
    pub(super) valid_to: Option<i64>,
    /// `None` in the row of a delete that closes nothing.
    pub(super) state: Option<S>,
    /// The instants at which the state (or the delete) was reported again, ascending, within the interval (or
    /// until the next row).
    pub(super) seen_again: Vec<i64>,
}

/// A reported change at an instant: a state, or `None` for a delete.
pub(super) type Change<S> = (i64, Option<S>);

/// Appends the changes that these rows represent. The rows are sorted by `valid_from`.
pub(super) fn changes<S: Copy>(rows: &[Row<S>], out: &mut Vec<Change<S>>) {
    for (index, row) in rows.iter().enumerate() {
        out.push((row.valid_from, row.state));
        out.extend(row.seen_again.iter().map(|at| (*at, row.state)));
        // A row is closed by the next one, or by a delete.
        if let (Some(_), Some(end)) = (row.state, row.valid_to)
            && rows.get(index + 1).is_none_or(|next| next.valid_from != end)
        {
            out.push((end, None));
        }
    }
}

/// Returns the rows that represent these changes. `compare` orders states, so that one of several changes at
/// an instant wins. States that compare as equal are identical.
pub(super) fn rows<S: Copy>(
    changes: &mut Vec<Change<S>>,
    compare: impl Fn(S, S) -> std::cmp::Ordering,
) -> Vec<Row<S>> {
    let rank = |a: Option<S>, b: Option<S>| match (a, b) {
        (Some(a), Some(b)) => compare(a, b),
        // A delete is greater than any state.
        (a, b) => a.is_none().cmp(&b.is_none()),
    };
    // The winning change of an instant comes first and is kept.
    changes.sort_by(|(at, a), (bt, b)| at.cmp(bt).then_with(|| rank(*b, *a)));
    changes.dedup_by_key(|(at, _)| *at);

    let mut rows: Vec<Row<S>> = Vec::with_capacity(changes.len());
    for &(at, state) in changes.iter() {
        match rows.last_mut() {
            Some(last) if rank(last.state, state).is_eq() => {
                last.seen_again.push(at);
                continue;
            }
            Some(last) if last.state.is_some() => last.valid_to = Some(at),
            _ => {}
        }
        let valid_to = state.is_none().then_some(at);
        rows.push(Row { valid_from: at, valid_to, state, seen_again: Vec::new() });
    }
    drop_needless(&mut rows);
    rows
}

/// Drops the row of a delete if the delete was reported only once and closed a row. The end of that row
/// represents it.
fn drop_needless<S>(rows: &mut Vec<Row<S>>) {
    let mut follows_state = false;
    rows.retain(|row| {
        let keep = row.state.is_some() || !row.seen_again.is_empty() || !follows_state;
        follows_state = row.state.is_some();
        keep
    });
}

/// Drops repetitions that are not newer than `horizon`, and rows that represented nothing else.
pub(super) fn forget<S>(rows: &mut Vec<Row<S>>, horizon: i64) {
    for row in rows.iter_mut() {
        row.seen_again.retain(|at| *at > horizon);
    }
    drop_needless(rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(changes: &[Change<char>]) -> Vec<Row<char>> {
        rows(&mut changes.to_vec(), |a, b| a.cmp(&b))
    }

    fn row(valid_from: i64, valid_to: impl Into<Option<i64>>, state: char, seen_again: &[i64]) -> Row<char> {
        Row { valid_from, valid_to: valid_to.into(), state: Some(state), seen_again: seen_again.to_vec() }
    }

    fn tombstone(at: i64, seen_again: &[i64]) -> Row<char> {
        Row { valid_from: at, valid_to: Some(at), state: None, seen_again: seen_again.to_vec() }
    }

    #[test]
    fn a_change_closes_the_row_before() {
        assert_eq!(history(&[(1, Some('a')), (3, Some('b'))]), [row(1, 3, 'a', &[]), row(3, None, 'b', &[])]);
    }

    #[test]
    fn a_repeated_state_is_remembered_for_a_late_change_before_it() {
        assert_eq!(history(&[(1, Some('a')), (5, Some('a'))]), [row(1, None, 'a', &[5])]);
        assert_eq!(
            history(&[(1, Some('a')), (5, Some('a')), (3, Some('b'))]),
            [row(1, 3, 'a', &[]), row(3, 5, 'b', &[]), row(5, None, 'a', &[])]
        );
    }

    #[test]
    fn a_delete_leaves_a_gap_and_the_key_may_come_back() {
        assert_eq!(
            history(&[(1, Some('a')), (3, None), (7, Some('a'))]),
            [row(1, 3, 'a', &[]), row(7, None, 'a', &[])]
        );
    }

    #[test]
    fn a_delete_that_closes_nothing_has_a_row_of_its_own() {
        assert_eq!(history(&[(4, None)]), [tombstone(4, &[])]);
        assert_eq!(history(&[(4, None), (2, Some('a'))]), [row(2, 4, 'a', &[])]);
        assert_eq!(
            history(&[(1, Some('a')), (3, None), (5, None)]),
            [row(1, 3, 'a', &[]), tombstone(3, &[5])]
        );
        assert_eq!(
            history(&[(1, Some('a')), (3, None), (5, None), (4, Some('b'))]),
            [row(1, 3, 'a', &[]), row(4, 5, 'b', &[])]
        );
    }

    #[test]
    fn at_one_instant_a_delete_wins_and_else_the_greater_state() {
        assert_eq!(history(&[(1, Some('b')), (1, Some('a'))]), [row(1, None, 'b', &[])]);
        assert_eq!(history(&[(1, None), (1, Some('a'))]), [tombstone(1, &[])]);
    }

    #[test]
    fn old_repetitions_are_forgotten_with_the_rows_that_stood_for_them() {
        let mut rows =
            history(&[(1, Some('a')), (2, Some('a')), (3, None), (4, None), (5, Some('b')), (6, Some('b'))]);
        forget(&mut rows, 5);
        assert_eq!(rows, [row(1, 3, 'a', &[]), row(5, None, 'b', &[6])]);
    }

    #[test]
    fn rows_tell_the_changes_that_made_them() {
        let made_by =
            [(0, None), (1, Some('a')), (2, Some('a')), (3, None), (4, None), (5, Some('b')), (6, None)];
        let mut told = Vec::new();
        changes(&history(&made_by), &mut told);
        told.sort();
        assert_eq!(told, made_by);
    }
}
