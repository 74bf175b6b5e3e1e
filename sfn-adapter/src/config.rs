//! [`Config`]: the function's environment.

use redshift_orchestrator::Target;

use crate::{Call, Error, ErrorNames};

/// The environment variables that the function reads.
pub const VARIABLES: [&str; 18] = [
    "SFN_ADAPTER_HANDLER",
    "REGION",
    "AWS_REGION",
    "CLUSTER_NAME",
    "WORKGROUP_NAME",
    "PROCEDURE",
    "SECRET_ARN",
    "DB_USER",
    "DATABASE",
    "SCHEMA",
    "ERROR_NAMES",
    "METRICS_NAMESPACE",
    "HUDI_TABLE",
    "HUDI_PROFILE",
    "HUDI_MAX_BYTES",
    "HUDI_LEASE_SECONDS",
    "GLUE_JOURNAL",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
];

/// The handler, chosen by the variable `SFN_ADAPTER_HANDLER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HandlerName {
    /// The drop-in replacement for the reference solution's function. The default.
    #[default]
    Redshift,
    /// The full contract: submit, status, wait, cancel, result and list.
    Statement,
    /// Completes tasks when the events of their statements arrive.
    #[cfg(feature = "callback")]
    Callback,
    /// Takes raw files into a Hudi table, and maintains the table.
    #[cfg(feature = "hudi")]
    Hudi,
    /// Runs jobs of AWS Glue, and maintains its catalog and crawlers.
    #[cfg(feature = "glue")]
    Glue,
}

impl HandlerName {
    /// The handlers of this build.
    pub const ALL: &'static [Self] = &[
        Self::Redshift,
        Self::Statement,
        #[cfg(feature = "callback")]
        Self::Callback,
        #[cfg(feature = "hudi")]
        Self::Hudi,
        #[cfg(feature = "glue")]
        Self::Glue,
    ];

    /// Returns the name as it is written in the variable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redshift => "redshift",
            Self::Statement => "statement",
            #[cfg(feature = "callback")]
            Self::Callback => "callback",
            #[cfg(feature = "hudi")]
            Self::Hudi => "hudi",
            #[cfg(feature = "glue")]
            Self::Glue => "glue",
        }
    }

    /// Reads the handler from variables, usually the environment.
    ///
    /// # Errors
    /// Returns [`Error::Config`] for any other value. The message lists the known handlers.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let value = variable("SFN_ADAPTER_HANDLER").unwrap_or_default();
        let value = value.trim();
        if value.is_empty() {
            return Ok(Self::default());
        }
        Self::ALL.iter().copied().find(|handler| handler.as_str() == value).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|handler| handler.as_str()).collect();
            let known = known.join(", ");
            Error::Config(format!(
                "SFN_ADAPTER_HANDLER is not a handler of this build; set it to one of {known}"
            ))
        })
    }
}

/// The warehouse and the credentials for its statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warehouse {
    /// The AWS region of the warehouse.
    pub region: String,
    /// Cluster or workgroup, database and authentication.
    pub target: Target,
}

impl Warehouse {
    /// Reads the warehouse of the handler `statement` from variables, usually the environment. Without a
    /// secret and a database user, statements run with the function's IAM identity.
    ///
    /// # Errors
    /// Returns [`Error::Config`]. The message names all missing variables, or the first invalid one, and
    /// contains no values.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variables = Variables(&variable);
        variables.require(&["DATABASE"], &[])?;
        variables.warehouse()
    }
}

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
    /// Reads the configuration of the drop-in from variables, usually the environment. An empty variable
    /// counts as missing.
    ///
    /// # Errors
    /// Returns [`Error::Config`]. The message names all missing variables, or the first invalid one, and
    /// contains no values.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variables = Variables(&variable);
        variables.require(&["PROCEDURE"], &["DATABASE", "SCHEMA"])?;
        let Warehouse { region, target } = variables.warehouse()?;
        let call = Call::new(&variables.text("SCHEMA"), &variables.text("PROCEDURE"))?;
        Ok(Self { region, target, call })
    }
}

/// Reads the region, the only setting that the handlers `callback` and `glue` need.
#[cfg(any(feature = "callback", feature = "glue"))]
pub(crate) fn region(variable: impl Fn(&str) -> Option<String>) -> Result<String, Error> {
    let variables = Variables(&variable);
    let region = variables.region();
    region.ok_or_else(|| Error::Config(format!("set the function's environment variable {REGION}")))
}

/// The variables of the region in a message.
const REGION: &str = "REGION (or AWS_REGION)";

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default()
    }

    /// AWS Lambda sets `AWS_REGION` to the function's own region.
    fn region(&self) -> Option<String> {
        self.get("REGION").or_else(|| self.get("AWS_REGION"))
    }

    /// Names all missing variables. A drop-in (with `PROCEDURE`) also needs credentials.
    fn require(&self, first: &[&'static str], last: &[&'static str]) -> Result<(), Error> {
        let is_dropin = first.contains(&"PROCEDURE");
        let needed = |name: &'static str| (name, self.get(name).is_some());
        let mut needs = vec![
            (REGION, self.region().is_some()),
            (
                "CLUSTER_NAME (or WORKGROUP_NAME)",
                self.get("CLUSTER_NAME").or_else(|| self.get("WORKGROUP_NAME")).is_some(),
            ),
        ];
        needs.extend(first.iter().copied().map(needed));
        if is_dropin {
            let credentials = self.get("SECRET_ARN").or_else(|| self.get("DB_USER"));
            needs.push(("SECRET_ARN (or DB_USER)", credentials.is_some()));
        }
        needs.extend(last.iter().copied().map(needed));
        let missing: Vec<_> = needs.into_iter().filter(|(_, is_set)| !is_set).map(|(name, _)| name).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => {
                let missing = missing.join(", ");
                Err(Error::Config(format!("set the function's environment variable {missing}")))
            }
        }
    }

    fn warehouse(&self) -> Result<Warehouse, Error> {
        let wrong = |text: &str| Err(Error::Config(text.to_owned()));
        let database = self.text("DATABASE");
        let target = match (self.get("CLUSTER_NAME"), self.get("WORKGROUP_NAME")) {
            (Some(_), Some(_)) => {
                return wrong(
                    "set CLUSTER_NAME for a provisioned cluster or WORKGROUP_NAME for a serverless workgroup, not both",
                );
            }
            (Some(cluster), None) => Target::cluster(cluster, database),
            (None, workgroup) => Target::workgroup(workgroup.unwrap_or_default(), database),
        };
        let target = match (self.get("SECRET_ARN"), self.get("DB_USER")) {
            (Some(secret), _) => target.with_secret(secret),
            (None, Some(_)) if self.get("CLUSTER_NAME").is_none() => {
                return wrong("DB_USER needs a provisioned cluster; set SECRET_ARN with WORKGROUP_NAME");
            }
            (None, Some(user)) => target.with_database_user(user),
            (None, None) => target,
        };
        Ok(Warehouse { region: self.region().unwrap_or_default(), target })
    }
}

impl ErrorNames {
    /// Reads the naming scheme from the variable `ERROR_NAMES`: `boto3` or `qualified`. Default: `boto3` for
    /// the drop-in, and `qualified` for the other handlers.
    ///
    /// # Errors
    /// Returns [`Error::Config`] for any other value.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        handler: HandlerName,
    ) -> Result<Self, Error> {
        match variable("ERROR_NAMES").as_deref().map(str::trim) {
            None | Some("") => {
                Ok(if handler == HandlerName::Redshift { Self::Boto3 } else { Self::Qualified })
            }
            Some("boto3") => Ok(Self::Boto3),
            Some("qualified") => Ok(Self::Qualified),
            Some(_) => Err(Error::Config("ERROR_NAMES must be boto3 or qualified".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use redshift_orchestrator::Auth;

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
            "set the function's environment variable REGION (or AWS_REGION), CLUSTER_NAME (or WORKGROUP_NAME), SCHEMA"
        );
        assert_eq!(
            message(&[("SECRET_ARN", "")]),
            "set the function's environment variable SECRET_ARN (or DB_USER)"
        );
    }

    #[test]
    fn the_region_of_the_function_takes_the_place_of_a_missing_one() {
        let region = |changes: &[(&str, &str)]| Config::from_variables(variables(changes)).unwrap().region;
        assert_eq!(region(&[("AWS_REGION", "us-east-1")]), "eu-west-1");
        assert_eq!(region(&[("REGION", ""), ("AWS_REGION", "us-east-1")]), "us-east-1");
    }

    #[test]
    fn a_database_user_takes_the_place_of_a_missing_secret() {
        let auth = |changes: &[(&str, &str)]| {
            Config::from_variables(variables(changes)).unwrap().target.auth().clone()
        };
        let secret = Auth::Secret("arn:aws:secretsmanager:eu-west-1:1:secret:dwh".to_owned());
        assert_eq!(auth(&[("DB_USER", "etl")]), secret);
        assert_eq!(auth(&[("SECRET_ARN", ""), ("DB_USER", "etl")]), Auth::DatabaseUser("etl".to_owned()));
        let serverless =
            [("SECRET_ARN", ""), ("DB_USER", "etl"), ("CLUSTER_NAME", ""), ("WORKGROUP_NAME", "w")];
        assert_eq!(
            message(&serverless),
            "DB_USER needs a provisioned cluster; set SECRET_ARN with WORKGROUP_NAME"
        );
    }

    #[test]
    fn the_handler_statement_needs_neither_a_procedure_nor_a_secret() {
        let changes = [("PROCEDURE", ""), ("SCHEMA", ""), ("SECRET_ARN", "")];
        let warehouse = Warehouse::from_variables(variables(&changes)).unwrap();
        assert_eq!(warehouse.target, Target::cluster("dwh", "mystore"));
        let error = Warehouse::from_variables(|_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "set the function's environment variable REGION (or AWS_REGION), CLUSTER_NAME (or WORKGROUP_NAME), DATABASE"
        );
    }

    #[test]
    fn an_unknown_handler_is_refused_with_the_known_ones() {
        let chosen = |name: &str| HandlerName::from_variables(variables(&[("SFN_ADAPTER_HANDLER", name)]));
        assert_eq!(chosen("").unwrap(), HandlerName::Redshift);
        for handler in HandlerName::ALL {
            assert_eq!(chosen(handler.as_str()).unwrap(), *handler);
        }
        let message = chosen("Statement").unwrap_err().to_string();
        assert!(message.starts_with(
            "SFN_ADAPTER_HANDLER is not a handler of this build; set it to one of redshift, statement"
        ));
    }

    #[test]
    fn an_unknown_choice_of_names_is_refused() {
        let names = |choice: &str, handler| {
            ErrorNames::from_variables(variables(&[("ERROR_NAMES", choice)]), handler)
        };
        assert_eq!(names("", HandlerName::Redshift).unwrap(), ErrorNames::Boto3);
        assert_eq!(names("", HandlerName::Statement).unwrap(), ErrorNames::Qualified);
        assert_eq!(names("qualified", HandlerName::Redshift).unwrap(), ErrorNames::Qualified);
        assert_eq!(names("boto3", HandlerName::Statement).unwrap(), ErrorNames::Boto3);
        assert!(names("java", HandlerName::Redshift).is_err());
    }
}
