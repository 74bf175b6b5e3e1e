//! [`Config`]: the drop-in's environment.

use redshift_orchestrator::Target;

use crate::{Call, Error, ErrorNames};

/// The environment variables that [`Config`] reads.
pub const VARIABLES: [&str; 8] = [
    "REGION",
    "CLUSTER_NAME",
    "WORKGROUP_NAME",
    "PROCEDURE",
    "SECRET_ARN",
    "DATABASE",
    "SCHEMA",
    "ERROR_NAMES",
];

/// The procedure that the drop-in calls, and its database and credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The AWS region of the warehouse.
    pub region: String,
    /// The warehouse.
    pub target: Target,
    /// The procedure.
    pub call: Call,
}

impl Config {
    /// Reads the configuration from variables, usually the environment's. An empty variable counts as a
    /// missing one.
    ///
    /// # Errors
    /// Returns [`Error::Config`], which names every missing variable, or the first invalid one. The message
    /// contains no values.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let (cluster, workgroup) = (get("CLUSTER_NAME"), get("WORKGROUP_NAME"));
        let mut missing: Vec<&str> = ["REGION", "PROCEDURE", "SECRET_ARN", "DATABASE", "SCHEMA"]
            .into_iter()
            .filter(|name| get(name).is_none())
            .collect();
        if cluster.is_none() && workgroup.is_none() {
            missing.insert(missing.len().min(1), "CLUSTER_NAME (or WORKGROUP_NAME)");
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Error::Config(format!("set the function's environment variable {missing}")));
        }
        let get = |name| get(name).unwrap_or_default();
        let target = match (cluster, workgroup) {
            (Some(_), Some(_)) => {
                return Err(Error::Config(
                    "set CLUSTER_NAME for a provisioned cluster or WORKGROUP_NAME for a serverless workgroup, not both"
                        .to_owned(),
                ));
            }
            (Some(cluster), None) => Target::cluster(cluster, get("DATABASE")),
            (None, workgroup) => Target::workgroup(workgroup.unwrap_or_default(), get("DATABASE")),
        };
        Ok(Self {
            region: get("REGION"),
            target: target.with_secret(get("SECRET_ARN")),
            call: Call::new(&get("SCHEMA"), &get("PROCEDURE"))?,
        })
    }
}

impl ErrorNames {
    /// Reads the choice from the variable `ERROR_NAMES`: `boto3` (also when it is not set) or `qualified`.
    ///
    /// # Errors
    /// Returns [`Error::Config`] for any other value.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        match variable("ERROR_NAMES").as_deref().map(str::trim) {
            None | Some("" | "boto3") => Ok(Self::Boto3),
            Some("qualified") => Ok(Self::Qualified),
            Some(_) => Err(Error::Config("ERROR_NAMES must be boto3 or qualified".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(changes: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let mut variables: std::collections::BTreeMap<_, _> = [
            ("REGION", "eu-west-1"),
            ("CLUSTER_NAME", "dwh"),
            ("PROCEDURE", "load"),
            ("SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:1:secret:dwh"),
            ("DATABASE", "mystore"),
            ("SCHEMA", "etl"),
        ]
        .into_iter()
        .collect();
        variables.extend(changes.iter().copied());
        let variables: std::collections::BTreeMap<String, String> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        move |name| variables.get(name).cloned()
    }

    fn message(changes: &[(&str, &str)]) -> String {
        Config::from_variables(variables(changes)).unwrap_err().to_string()
    }

    #[test]
    fn the_reference_environment_is_enough() {
        let config = Config::from_variables(variables(&[])).unwrap();
        assert_eq!(config.call.as_str(), "CALL etl.load();");
        let secret = "arn:aws:secretsmanager:eu-west-1:1:secret:dwh";
        assert_eq!(config.target, Target::cluster("dwh", "mystore").with_secret(secret));
    }

    #[test]
    fn a_workgroup_takes_the_place_of_a_cluster() {
        let serverless = variables(&[("CLUSTER_NAME", ""), ("WORKGROUP_NAME", "analytics")]);
        let config = Config::from_variables(serverless).unwrap();
        assert_eq!(
            config.target.compute(),
            &redshift_orchestrator::Compute::Workgroup("analytics".to_owned())
        );
        assert!(message(&[("WORKGROUP_NAME", "analytics")]).contains("not both"));
    }

    #[test]
    fn every_missing_variable_is_named() {
        for name in ["REGION", "CLUSTER_NAME", "PROCEDURE", "SECRET_ARN", "DATABASE", "SCHEMA"] {
            assert!(message(&[(name, "")]).contains(name), "{name}");
        }
        assert_eq!(
            message(&[("REGION", ""), ("CLUSTER_NAME", " "), ("SCHEMA", "")]),
            "set the function's environment variable REGION, CLUSTER_NAME (or WORKGROUP_NAME), SCHEMA"
        );
    }

    #[test]
    fn an_unknown_choice_of_names_is_refused() {
        assert_eq!(ErrorNames::from_variables(variables(&[])).unwrap(), ErrorNames::Boto3);
        let qualified = variables(&[("ERROR_NAMES", "qualified")]);
        assert_eq!(ErrorNames::from_variables(qualified).unwrap(), ErrorNames::Qualified);
        assert!(ErrorNames::from_variables(variables(&[("ERROR_NAMES", "java")])).is_err());
    }
}
