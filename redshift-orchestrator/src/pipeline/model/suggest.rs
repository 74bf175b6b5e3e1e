//! Suggestions for misspelt names.

/// Returns `; did you mean `name`?` for the most similar candidate. If no candidate is similar, returns a
/// list of the candidates, or an empty text if there are none or more than 20.
pub(in crate::pipeline) fn among<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let candidates: Vec<_> = candidates.collect();
    let close = close(wrong, candidates.iter().copied());
    if close.is_empty() && (1..=20).contains(&candidates.len()) {
        return format!("; there are `{}`", candidates.join("`, `"));
    }
    close
}

/// Returns `; did you mean `name`?` for the most similar candidate, or an empty text if no candidate is
/// similar.
pub(in crate::pipeline) fn close<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    candidates
        .map(|candidate| (distance(wrong, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min()
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

/// Returns the number of characters that must be added, removed or replaced to turn one word into the other.
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
    fn suggests_a_similar_name_or_lists_all_names() {
        let names = ["timeout", "retry", "after"];
        assert_eq!(among("tiemout", names.into_iter()), "; did you mean `timeout`?");
        assert_eq!(among("colour", names.into_iter()), "; there are `timeout`, `retry`, `after`");
        assert_eq!(among("x", std::iter::empty()), "");
    }
}
