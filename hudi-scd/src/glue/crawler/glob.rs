//! [`Glob`]: an exclusion pattern of a crawler.
//!
//! AWS documents the patterns under *Include and exclude patterns*:
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | zero or more characters of a name, without crossing a `/` |
//! | `**` | zero or more characters, crossing `/` |
//! | `?` | one character of a name |
//! | `[abc]`, `[a-c]`, `[!a-c]` | one character of a name that is in the set, or not in it; `*`, `?` and `\` have no special meaning in it, and neither has `-` at the front |
//! | `{one,two}` | one of the subpatterns; groups cannot be nested |
//! | `\*` | the character after the backslash |
//!
//! A dot at the beginning of a name has no special meaning. A pattern is matched with the whole path relative
//! to the target's include path.

use std::collections::BTreeSet;

/// A parsed pattern. Its groups are expanded, and each alternative is a sequence of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Vec<Vec<Token>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Character(char),
    /// `?`
    Any,
    /// `*`
    Name,
    /// `**`
    Path,
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Maximum number of alternatives of a pattern with several groups. AWS limits the length of patterns, but
/// documents no limit for groups.
const ALTERNATIVES: usize = 1024;

impl Glob {
    /// Parses a pattern. Returns `None` for an invalid pattern, which matches nothing.
    pub(super) fn parse(pattern: &str) -> Option<Self> {
        let mut alternatives = vec![Vec::new()];
        let mut characters = pattern.chars().peekable();
        while let Some(c) = characters.next() {
            if c != '{' {
                let token = Token::parse(c, &mut characters)?;
                alternatives.iter_mut().for_each(|tokens| tokens.push(token.clone()));
                continue;
            }
            let group = Self::group(&mut characters)?;
            if alternatives.len() * group.len() > ALTERNATIVES {
                return None;
            }
            alternatives = alternatives
                .iter()
                .flat_map(|head| group.iter().map(|tail| [head.as_slice(), tail].concat()))
                .collect();
        }
        Some(Self(alternatives))
    }

    /// Parses the subpatterns after `{`, up to and including `}`.
    fn group(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Vec<Vec<Token>>> {
        let mut group = vec![Vec::new()];
        loop {
            match characters.next()? {
                '}' => return Some(group),
                ',' => group.push(Vec::new()),
                '{' => return None,
                c => {
                    let token = Token::parse(c, characters)?;
                    group.last_mut()?.push(token);
                }
            }
        }
    }

    /// Returns `true` if the pattern matches a path.
    #[cfg(test)]
    fn matches(&self, path: &str) -> bool {
        self.0.iter().any(|tokens| {
            let end = path.chars().fold(begin(tokens), |at, c| advance(tokens, &at, c));
            end.last() == Some(&true)
        })
    }
}

/// Returns `true` if the patterns together match every path below a folder. The folder's own path ends with
/// `/`, or is empty for the include path itself.
///
/// A state consists of the possible positions in all patterns. In every state that some text below the folder
/// can reach, one of the patterns must have ended. If there are too many states to visit, the function
/// returns `false`.
pub(super) fn cover(patterns: &[Glob], folder: &str) -> bool {
    let patterns: Vec<&[Token]> = patterns.iter().flat_map(|glob| &glob.0).map(Vec::as_slice).collect();
    let alphabet = representatives(&patterns);
    let step = |state: &State, c: char| -> State {
        patterns.iter().zip(state).map(|(tokens, at)| advance(tokens, at, c)).collect()
    };
    let begin = patterns.iter().map(|tokens| begin(tokens)).collect();
    let begin = folder.chars().fold(begin, |state, c| step(&state, c));
    let mut seen = BTreeSet::from([begin.clone()]);
    let mut left = vec![begin];
    while let Some(state) = left.pop() {
        for c in &alphabet {
            let next = step(&state, *c);
            if !next.iter().any(|at| at.last() == Some(&true)) || seen.len() > STATES {
                return false;
            }
            if seen.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    true
}

/// For each pattern, the possible positions in it.
type State = Vec<Vec<bool>>;

/// Maximum number of states that [`cover`] visits. Patterns in practice have fewer than ten.
const STATES: usize = 1_000;

/// Returns one character of each kind that the patterns distinguish.
fn representatives(patterns: &[&[Token]]) -> BTreeSet<char> {
    let mut found = BTreeSet::from(['\0', '/', '0']);
    let mut add = |from: char, to: char| {
        found.insert(from);
        // The range skips the numbers that are not characters.
        found.extend((to..=char::MAX).nth(1));
    };
    for token in patterns.iter().copied().flatten() {
        match token {
            Token::Character(c) => add(*c, *c),
            Token::Set { ranges, .. } => ranges.iter().for_each(|(from, to)| add(*from, *to)),
            Token::Any | Token::Name | Token::Path => {}
        }
    }
    found
}

impl Token {
    /// Parses the token that begins with `c`, unless it is a group.
    fn parse(c: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Self> {
        Some(match c {
            '*' if rest.next_if_eq(&'*').is_some() => Self::Path,
            '*' => Self::Name,
            '?' => Self::Any,
            '\\' => Self::Character(rest.next()?),
            '[' => Self::set(rest)?,
            c => Self::Character(c),
        })
    }

    fn set(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Self> {
        let negated = rest.next_if_eq(&'!').is_some();
        let mut ranges = Vec::new();
        if rest.next_if_eq(&'-').is_some() {
            ranges.push(('-', '-'));
        }
        loop {
            let from = match rest.next()? {
                ']' if ranges.is_empty() => return None,
                ']' => return Some(Self::Set { negated, ranges }),
                c => c,
            };
            if rest.next_if_eq(&'-').is_none() {
                ranges.push((from, from));
                continue;
            }
            match rest.next()? {
                // A hyphen without an end of the range is not documented.
                ']' => return None,
                to if from <= to => ranges.push((from, to)),
                _ => return None,
            }
        }
    }

    /// Returns `true` if the token matches one character.
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Character(own) => *own == c,
            Self::Path => true,
            Self::Any | Self::Name => c != '/',
            Self::Set { negated, ranges } => {
                c != '/' && ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated
            }
        }
    }

    /// Returns `true` if the token matches any number of characters, including none.
    fn repeats(&self) -> bool {
        matches!(self, Self::Name | Self::Path)
    }
}

/// Returns the possible positions before the first character.
fn begin(tokens: &[Token]) -> Vec<bool> {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    skip(tokens, &mut at);
    at
}

/// Returns the possible positions after a character.
fn advance(tokens: &[Token], at: &[bool], c: char) -> Vec<bool> {
    let mut next = vec![false; tokens.len() + 1];
    for (index, token) in tokens.iter().enumerate().filter(|(index, _)| at[*index]) {
        if token.matches(c) {
            next[if token.repeats() { index } else { index + 1 }] = true;
        }
    }
    skip(tokens, &mut next);
    next
}

/// Adds the positions after tokens that may match nothing.
fn skip(tokens: &[Token], at: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if at[index] && token.repeats() {
            at[index + 1] = true;
        }
    }
}

/// Returns the pattern that matches a folder's path literally.
pub(super) fn escaped(path: &str) -> String {
    let mut pattern = String::new();
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// The examples of the documentation.
    #[rstest]
    #[case("*.csv", "a.csv", true)]
    #[case("*.csv", "folder/a.csv", false)]
    #[case("*.*", "a.b", true)]
    #[case("*.*", "ab", false)]
    #[case("*.{csv,avro}", "a.avro", true)]
    #[case("*.{csv,avro}", "a.json", false)]
    #[case("foo.?", "foo.x", true)]
    #[case("foo.?", "foo.xy", false)]
    #[case("foo.?", "foo./", false)]
    #[case("myfolder/*", "myfolder/mysource", true)]
    #[case("myfolder/*", "myfolder/mysource/data", false)]
    #[case("myfolder/*/*", "myfolder/mysource/data", true)]
    #[case("myfolder/**", "myfolder/mysource/mydata", true)]
    #[case("myfolder/**", "myfolder", false)]
    #[case("myfolder**", "myfolder", true)]
    #[case("myfolder**", "myfolder/mydata.txt", true)]
    #[case("*", ".hidden", true)]
    #[case("departments/**", "departments/finance.json", true)]
    #[case("departments/**", "employees/hr.json", false)]
    #[case("departments/market*", "departments/market-us.json", true)]
    #[case("departments/market*", "departments/finance.json", false)]
    #[case("**.csv", "employees/john.csv", true)]
    #[case("employees/*.csv", "employees/juan.txt", false)]
    #[case("2015/01/{[!0],0[8-9]}**", "2015/01/10/a", true)]
    #[case("2015/01/{[!0],0[8-9]}**", "2015/01/09/a", true)]
    #[case("2015/01/{[!0],0[8-9]}**", "2015/01/07/a", false)]
    #[case("2015/0[2-9]/**", "2015/03/01/a", true)]
    #[case("2015/1[0-2]/**", "2015/01/01/a", false)]
    fn documented_examples(#[case] pattern: &str, #[case] path: &str, #[case] matches: bool) {
        assert_eq!(Glob::parse(pattern).unwrap().matches(path), matches);
    }

    #[rstest]
    #[case(r"\\", r"\", true)]
    #[case(r"\{a", "{a", true)]
    #[case("[abce-g]", "f", true)]
    #[case("[abce-g]", "d", false)]
    #[case("[!a-c]", "a", false)]
    #[case("[!a-c]", "d", true)]
    #[case("[!a-c]", "/", false)]
    #[case("[-a]", "-", true)]
    #[case("[!-a]", "-", false)]
    #[case(r"[*?\]", r"\", true)]
    #[case("a{,b}c", "ac", true)]
    #[case("{a,b}{c,d}", "bc", true)]
    #[case("a,b", "a,b", true)]
    #[case("Ä?", "Äö", true)]
    fn documented_rules(#[case] pattern: &str, #[case] path: &str, #[case] matches: bool) {
        assert_eq!(Glob::parse(pattern).unwrap().matches(path), matches);
    }

    #[rstest]
    #[case("{a,{b,c}}")]
    #[case("{a")]
    #[case("[a")]
    #[case("[]")]
    #[case("[z-a]")]
    #[case("a\\")]
    fn patterns_that_are_not_valid(#[case] pattern: &str) {
        assert_eq!(Glob::parse(pattern), None);
    }

    fn covers(patterns: &[&str], folder: &str) -> bool {
        let patterns: Vec<_> = patterns.iter().map(|pattern| Glob::parse(pattern).unwrap()).collect();
        cover(&patterns, folder)
    }

    #[rstest]
    #[case(&["store/**"], "store/", true)]
    #[case(&["store**"], "store/", true)]
    #[case(&["**"], "store/", true)]
    #[case(&["**/*"], "store/", true)]
    #[case(&["{raw,store}/**"], "store/", true)]
    #[case(&["s*/**"], "store/", true)]
    #[case(&["lake/**"], "lake/store/", true)]
    #[case(&["**"], "", true)]
    #[case(&["store/*", "store/*/**"], "store/", true)]
    #[case(&["store/[!0]**", "store/0**"], "store/", false)]
    #[case(&["store/[!0]**", "store/0**", "store//**"], "store/", true)]
    #[case(&["store/*"], "store/", false)]
    #[case(&["store"], "store/", false)]
    #[case(&["store/**.parquet"], "store/", false)]
    #[case(&["store_customer/**"], "store/", false)]
    #[case(&["store/**"], "store_customer/", false)]
    #[case(&["store/*/**"], "store/", false)]
    #[case(&[], "store/", false)]
    fn a_folder_is_covered_if_nothing_below_is_left(
        #[case] patterns: &[&str],
        #[case] folder: &str,
        #[case] covered: bool,
    ) {
        assert_eq!(covers(patterns, folder), covered);
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = Glob::parse(&"**a".repeat(200)).unwrap();
        assert!(!pattern.matches(&"a".repeat(199)));
        assert!(!cover(&[pattern], &"b".repeat(5_000)));
        // The states of this pattern are all sets of its positions.
        assert!(!covers(&[&format!("**a{}", "?".repeat(60))], "x/"));
    }

    proptest! {
        #[test]
        fn an_escaped_path_matches_itself_alone(path in "[a-c*?{}\\[\\]!,\\\\/-]{1,12}", other in "[a-c*?/]{1,12}") {
            let pattern = Glob::parse(&escaped(&path)).unwrap();
            prop_assert!(pattern.matches(&path));
            prop_assert_eq!(pattern.matches(&other), other == path);
            let below = Glob::parse(&format!("{}/**", escaped(&path))).unwrap();
            let folder = format!("{path}/");
            prop_assert!(cover(&[below], &folder));
        }

        #[test]
        fn covered_means_that_everything_below_matches(
            patterns in prop::collection::vec("[ab*/?]{1,6}", 1..4), folder in "[ab]{1,2}/",
        ) {
            let globs: Vec<_> = patterns.iter().map(|pattern| Glob::parse(pattern).unwrap()).collect();
            let is_left = |below: &str| !globs.iter().any(|glob| glob.matches(&format!("{folder}{below}")));
            let mut texts = vec![String::new()];
            let mut left = false;
            for _ in 0..4 {
                texts =
                    texts.iter().flat_map(|text| ['a', 'b', '/', 'x'].map(|c| format!("{text}{c}"))).collect();
                left |= texts.iter().any(|text| is_left(text));
            }
            // `left` is `true` if a path of up to four characters is not matched.
            prop_assert_eq!(cover(&globs, &folder), !left);
        }

        #[test]
        fn any_text_parses_or_not_without_a_panic(pattern in ".{0,20}", path in ".{0,20}") {
            if let Some(glob) = Glob::parse(&pattern) {
                glob.matches(&path);
                cover(&[glob], &path);
            }
        }
    }
}
