//! [`RetentionPolicy`]: the part of a table's past that is kept.

use std::fmt;

/// How much of a table's past is kept. The rules and names are Hudi's.
///
/// | policy | Hudi | kept |
/// |---|---|---|
/// | [`commits(n)`](Self::commits) | `KEEP_LATEST_COMMITS` | files for reads as of one of the last n commits |
/// | [`hours(h)`](Self::hours) | `KEEP_LATEST_BY_HOURS` | files for reads as of a commit of the last h hours |
/// | [`file_versions(n)`](Self::file_versions) | `KEEP_LATEST_FILE_VERSIONS` | n versions of each file group |
///
/// The newest version of a file group and files protected by a savepoint are always kept. The first two
/// policies also keep one version older than the window, because a read as of the window's first commit needs
/// file groups as they were at that time. A file group therefore has up to n + 1 versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetentionPolicy {
    /// The number of the latest commits.
    Commits(u32),
    /// The number of hours whose commits are kept.
    Hours(u32),
    /// The number of versions per file group.
    FileVersions(u32),
}

/// The table property that names the policy.
pub const POLICY: &str = "hoodie.cleaner.policy";
const COMMITS: &str = "hoodie.cleaner.commits.retained";
const HOURS: &str = "hoodie.cleaner.hours.retained";
const FILE_VERSIONS: &str = "hoodie.cleaner.fileversions.retained";

impl RetentionPolicy {
    /// Keeps the last `commits` commits readable (at least one). Hudi's `hoodie.cleaner.commits.retained`.
    pub fn commits(commits: u32) -> Self {
        Self::Commits(commits.max(1))
    }

    /// Keeps the commits of the last `hours` hours readable (at least one hour). Hudi's
    /// `hoodie.cleaner.hours.retained`.
    ///
    /// As in Hudi, nothing is deleted while the newest commit is older than `hours` hours.
    pub fn hours(hours: u32) -> Self {
        Self::Hours(hours.max(1))
    }

    /// Keeps `versions` versions of each file group (at least one). Hudi's
    /// `hoodie.cleaner.fileversions.retained`.
    ///
    /// No commit except the newest one is guaranteed to stay readable as a whole.
    pub fn file_versions(versions: u32) -> Self {
        Self::FileVersions(versions.max(1))
    }

    /// Returns the property that holds the limit, and its value.
    pub fn property(self) -> (&'static str, u32) {
        match self {
            Self::Commits(n) => (COMMITS, n),
            Self::Hours(n) => (HOURS, n),
            Self::FileVersions(n) => (FILE_VERSIONS, n),
        }
    }

    /// Returns the policy that a table's properties define. If they do not name a policy, the policy whose
    /// limit is set applies, as in Hudi. An invalid number is ignored, because it is a setting of another
    /// engine and no reason to reject the table.
    pub fn of_properties(get: impl Fn(&str) -> Option<u32>, name: Option<&str>) -> Option<Self> {
        let policies = [
            get(COMMITS).map(Self::commits),
            get(HOURS).map(Self::hours),
            get(FILE_VERSIONS).map(Self::file_versions),
        ];
        policies.into_iter().flatten().find(|policy| name.is_none_or(|name| policy.name() == name))
    }

    /// Returns Hudi's name for the policy, as in `hoodie.cleaner.policy` and in the plans of cleans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Commits(_) => "KEEP_LATEST_COMMITS",
            Self::Hours(_) => "KEEP_LATEST_BY_HOURS",
            Self::FileVersions(_) => "KEEP_LATEST_FILE_VERSIONS",
        }
    }
}

/// Ten commits, as in Hudi.
impl Default for RetentionPolicy {
    fn default() -> Self {
        Self::commits(10)
    }
}

impl fmt::Display for RetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::Commits(n) => (n, "commits"),
            Self::Hours(n) => (n, "hours"),
            Self::FileVersions(n) => (n, "file versions"),
        };
        write!(f, "the last {number} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_its_policy_in_hudis_words() {
        for policy in
            [RetentionPolicy::commits(3), RetentionPolicy::hours(5), RetentionPolicy::file_versions(7)]
        {
            let (property, number) = policy.property();
            let get = |name: &str| (name == property).then_some(number);
            assert_eq!(RetentionPolicy::of_properties(get, Some(policy.name())), Some(policy));
            assert_eq!(RetentionPolicy::of_properties(get, None), Some(policy));
            assert_eq!(RetentionPolicy::of_properties(get, Some("KEEP_EVERYTHING")), None);
        }
        assert_eq!(RetentionPolicy::of_properties(|_| None, None), None);
    }

    #[test]
    fn keeps_ten_commits_unless_told_otherwise_and_never_nothing() {
        assert_eq!(RetentionPolicy::default(), RetentionPolicy::Commits(10));
        assert_eq!(RetentionPolicy::commits(0), RetentionPolicy::commits(1));
        assert_eq!(RetentionPolicy::hours(24).to_string(), "the last 24 hours");
    }
}
