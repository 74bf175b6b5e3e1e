//! [`Target`]: which database a statement runs in, and as whom.

use std::fmt;

/// The database that statements run in, and as whom.
///
/// Secrets are named by their ARN only; `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    compute: Compute,
    database: String,
    auth: Auth,
}

/// What runs the statements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compute {
    /// A provisioned cluster, by its identifier.
    Cluster(String),
    /// A serverless workgroup, by its name (or ARN, from another account).
    Workgroup(String),
}

/// As whom the statements run.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Auth {
    /// As the caller's IAM identity. The default.
    #[default]
    Iam,
    /// As this database user, with temporary credentials. Provisioned clusters only.
    DatabaseUser(String),
    /// With the credentials of this AWS Secrets Manager secret, by its ARN.
    Secret(String),
}

impl Target {
    /// A database of a provisioned cluster, as the caller's IAM identity.
    pub fn cluster(identifier: impl Into<String>, database: impl Into<String>) -> Self {
        Self { compute: Compute::Cluster(identifier.into()), database: database.into(), auth: Auth::Iam }
    }

    /// A database of a serverless workgroup, as the caller's IAM identity.
    pub fn workgroup(name: impl Into<String>, database: impl Into<String>) -> Self {
        Self { compute: Compute::Workgroup(name.into()), database: database.into(), auth: Auth::Iam }
    }

    /// Runs statements as this database user.
    #[must_use]
    pub fn with_database_user(mut self, user: impl Into<String>) -> Self {
        self.auth = Auth::DatabaseUser(user.into());
        self
    }

    /// Runs statements with the credentials of this secret.
    #[must_use]
    pub fn with_secret(mut self, arn: impl Into<String>) -> Self {
        self.auth = Auth::Secret(arn.into());
        self
    }

    /// What runs the statements.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// As whom the statements run.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }
}

impl Target {
    /// Returns `true` if compute and database are the same, whatever the authentication. A workgroup that is
    /// named by its ARN is taken for any other workgroup, because an ARN does not contain the name.
    pub(crate) fn is_same_database(&self, other: &Self) -> bool {
        let is_arn = |name: &str| name.starts_with("arn:");
        let same_compute = match (&self.compute, &other.compute) {
            (Compute::Cluster(one), Compute::Cluster(two)) => one.eq_ignore_ascii_case(two),
            (Compute::Workgroup(one), Compute::Workgroup(two)) => {
                is_arn(one) != is_arn(two) || one.eq_ignore_ascii_case(two)
            }
            _ => false,
        };
        same_compute && self.database.eq_ignore_ascii_case(&other.database)
    }
}

/// `cluster/dwh/mystore`, without the authentication.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.compute {
            Compute::Cluster(identifier) => ("cluster", identifier),
            Compute::Workgroup(name) => ("workgroup", name),
        };
        write!(f, "{kind}/{name}/{}", self.database)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("compute", &self.compute)
            .field("database", &self.database)
            .field("auth", &self.auth)
            .finish()
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iam => f.write_str("Iam"),
            Self::DatabaseUser(user) => f.debug_tuple("DatabaseUser").field(user).finish(),
            Self::Secret(_) => f.write_str("Secret(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_print_the_secret() {
        let target =
            Target::cluster("dwh", "mystore").with_secret("arn:aws:secretsmanager:eu-west-1:1:secret:dwh");
        assert_eq!(
            format!("{target:?}"),
            r#"Target { compute: Cluster("dwh"), database: "mystore", auth: Secret(..) }"#
        );
    }
}
