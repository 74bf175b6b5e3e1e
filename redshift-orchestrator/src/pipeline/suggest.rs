//! "Did you mean …?"

/// `; did you mean `name`?` for the most similar candidate, a list of all when none is similar, nothing when there is none.
pub(super) fn among<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let candidates: Vec<_> = candidates.collect();
    let close = candidates
        .iter()
        .map(|candidate| (distance(wrong, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min();
    match close {
        Some((_, candidate)) => format!("; did you mean `{candidate}`?"),
        None if candidates.is_empty() => String::new(),
        None if candidates.len() <= 20 => format!("; there are `{}`", candidates.join("`, `")),
        None => String::new(),
    }
}

/// `; did you mean `name`?` for the most similar candidate, if one is similar.
pub(super) fn close<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let similar = among(wrong, candidates);
    if similar.contains("did you mean") { similar } else { String::new() }
}

/// How many letters must be added, taken away or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, candidate) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_close_and_lists_what_is_not() {
        let names = ["timeout", "retry", "after"];
        assert_eq!(among("tiemout", names.into_iter()), "; did you mean `timeout`?");
        assert_eq!(among("colour", names.into_iter()), "; there are `timeout`, `retry`, `after`");
        assert_eq!(among("x", std::iter::empty()), "");
    }
}
