//! [`Target`]: the service, compute, database and user with which a statement runs.

use std::fmt;

/// Compute, database and user with which statements run.
///
/// A compute and a database with equal names can exist in several accounts and regions. The [name of the
/// service](Self::with_service_name) distinguishes them in the journal.
///
/// A secret is identified by its ARN, which `Debug` does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    service_name: Option<String>,
    compute: Compute,
    database: String,
    auth: Auth,
}

/// The cluster or workgroup that runs the statements.
///
/// The enum is exhaustive, so that every executor must handle a new variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// A provisioned cluster, identified by its name.
    Cluster(String),
    /// A serverless workgroup, identified by its name, or by its ARN if it belongs to another account.
    Workgroup(String),
}

/// Authentication of statements.
///
/// The enum is exhaustive, so that every executor must handle a new variant.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// The caller's IAM identity. The default.
    #[default]
    Iam,
    /// A database user with temporary credentials. Provisioned clusters only.
    DatabaseUser(String),
    /// The credentials in an AWS Secrets Manager secret, identified by its ARN.
    Secret(String),
}

impl Target {
    /// Creates a target in a provisioned cluster, authenticated by the caller's IAM identity.
    pub fn cluster(identifier: impl Into<String>, database: impl Into<String>) -> Self {
        Self::new(Compute::Cluster(identifier.into()), database.into())
    }

    /// Creates a target in a serverless workgroup, authenticated by the caller's IAM identity.
    pub fn workgroup(name: impl Into<String>, database: impl Into<String>) -> Self {
        Self::new(Compute::Workgroup(name.into()), database.into())
    }

    fn new(compute: Compute, database: String) -> Self {
        Self { service_name: None, compute, database, auth: Auth::Iam }
    }

    /// Sets the name of the service that the compute belongs to, such as `111122223333:eu-west-1` for an
    /// account and a region. The journal records it, and rejects a run or a statement that continues in
    /// another service.
    ///
    /// Default: `DataApiExecutor` sets the endpoint's URL, if there is one, and the region. It does not know
    /// the account.
    #[must_use]
    pub fn with_service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
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

    /// Returns the name of the service, if it is set.
    pub fn service_name(&self) -> Option<&str> {
        self.service_name.as_deref()
    }

    /// Returns the cluster or workgroup.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Returns the name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Returns the authentication.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }
}

impl Target {
    /// Returns `true` if compute and database are equal; the authentication is ignored. The ARN of a
    /// workgroup does not contain its name, so a workgroup given by its ARN counts as equal to any workgroup
    /// given by its name.
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

    /// Returns `true` if a journal recorded this target as `text`. Earlier versions did not record the name
    /// of the service.
    pub(crate) fn is_recorded_as(&self, text: &str) -> bool {
        let unnamed = Self { service_name: None, ..self.clone() };
        text == self.to_string() || text == unnamed.to_string()
    }
}

/// Prints the target without its authentication, for example `cluster/dwh/mystore`, or
/// `eu-west-1:cluster/dwh/mystore` if the name of the service is set.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.compute {
            Compute::Cluster(identifier) => ("cluster", identifier),
            Compute::Workgroup(name) => ("workgroup", name),
        };
        self.service_name.iter().try_for_each(|service| write!(f, "{service}:"))?;
        write!(f, "{kind}/{name}/{}", self.database)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("service_name", &self.service_name)
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
            r#"Target { service_name: None, compute: Cluster("dwh"), database: "mystore", auth: Secret(..) }"#
        );
    }
}
