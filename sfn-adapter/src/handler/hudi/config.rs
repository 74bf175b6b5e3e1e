//! [`HudiConfig`]: the table, its cleaning rules, and the limits of one event.

use std::time::Duration;

use hudi_scd::lock::LeaseTimes;

use super::Profile;
use crate::Error;

/// The memory assumed for a function whose size is unknown, in MiB.
const DEFAULT_MEMORY: u64 = 512;

/// Minimum lease in seconds, because a request to S3 may take some seconds.
const MIN_LEASE: u64 = 10;

/// Divisor: the raw files of one event may use this share of the function's memory.
const RAW_SHARE: u64 = 4;

/// Upper limit of the default. Raw files are copied to the function's temporary folder, which has 512 MB.
const MAX_RAW: u64 = 256 << 20;

/// The configuration of the handler `hudi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HudiConfig {
    /// The URL of the table.
    pub table: String,
    /// The cleaning rules.
    pub profile: Profile,
    /// Maximum uncompressed size of the new files of one event, in bytes.
    pub max_bytes: u64,
    /// The function's memory in bytes.
    pub memory: usize,
    /// Time for which the table stays locked after a function died while it held the lock.
    pub lease: Duration,
}

impl HudiConfig {
    /// Creates the configuration of a table without cleaning rules, for a function with 512 MB.
    pub fn new(table: impl Into<String>) -> Self {
        let config = Self {
            table: table.into(),
            profile: Profile::default(),
            max_bytes: 0,
            memory: 0,
            lease: LeaseTimes::default().validity,
        };
        config.with_memory(DEFAULT_MEMORY)
    }

    /// Sets the function's memory in MiB, and derives the limit for raw files from it.
    fn with_memory(mut self, mebibytes: u64) -> Self {
        let bytes = mebibytes << 20;
        self.memory = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.max_bytes = (bytes / RAW_SHARE).min(MAX_RAW);
        self
    }

    /// Reads the configuration from variables, usually the environment.
    ///
    /// # Errors
    /// Returns [`Error::Config`] for a missing or invalid variable. The message names the variable.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set =
            |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let wrong = |text: String| Error::Config(text);
        let table = set("HUDI_TABLE").ok_or_else(|| {
            wrong("set the function's environment variable HUDI_TABLE to the URL of the table, such as s3://lake/customer".to_owned())
        })?;
        if !is_url_of_a_folder(&table) {
            return Err(wrong(
                "HUDI_TABLE is not the URL of a table; set it to a URL such as s3://lake/customer".to_owned(),
            ));
        }
        let mut config = Self::new(table);
        if let Some(text) = set("HUDI_PROFILE") {
            config.profile = match text.as_str() {
                "reference" => Profile::reference(),
                text => serde_json::from_str(text).map_err(|error| {
                    wrong(format!("HUDI_PROFILE must be reference or a JSON object: {error}"))
                })?,
            };
        }
        if let Some(memory) = set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|text| text.parse::<u64>().ok())
        {
            config = config.with_memory(memory);
        }
        if let Some(text) = set("HUDI_MAX_BYTES") {
            config.max_bytes =
                text.parse().map_err(|_| wrong("HUDI_MAX_BYTES must be a number of bytes".to_owned()))?;
        }
        if let Some(text) = set("HUDI_LEASE_SECONDS") {
            let seconds = text.parse().ok().filter(|seconds| (MIN_LEASE..=3_600).contains(seconds));
            let seconds = seconds.ok_or_else(|| {
                wrong(format!("HUDI_LEASE_SECONDS must be a number of seconds from {MIN_LEASE} to 3600"))
            })?;
            config.lease = Duration::from_secs(seconds);
        }
        Ok(config)
    }

    /// Returns the times of the table's lock. A lease is renewed ten times before it expires.
    pub(super) fn lease_times(&self) -> LeaseTimes {
        let defaults = LeaseTimes::default();
        let heartbeat = defaults.heartbeat.min(self.lease / 10);
        LeaseTimes { validity: self.lease, heartbeat, ..defaults }
    }
}

/// Returns `true` for a URL with a bucket, and for the absolute path of a folder.
fn is_url_of_a_folder(text: &str) -> bool {
    match text.split_once("://") {
        Some(("file", path)) => path.starts_with('/'),
        Some((scheme, rest)) => !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'),
        None => text.starts_with('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<HudiConfig, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        HudiConfig::from_variables(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_url_of_the_table_is_enough() {
        let read = config(&[("HUDI_TABLE", "s3://lake/customer")]).unwrap();
        assert_eq!(read, HudiConfig::new("s3://lake/customer"));
        assert_eq!(read.max_bytes, 128 << 20);
        assert!(config(&[]).unwrap_err().contains("HUDI_TABLE"));
    }

    /// Regression: the first event failed with Hudi.NotFound, as if the table were missing.
    #[test]
    fn a_table_without_a_url_is_a_mistake_of_the_configuration() {
        for refused in
            ["nonsense", "lake/customer", "s3:/lake", "s3://", "s3:///customer", "://x", "file://x"]
        {
            let error = config(&[("HUDI_TABLE", refused)]).unwrap_err();
            assert!(error.starts_with("HUDI_TABLE is not the URL of a table"), "{refused}: {error}");
        }
        for accepted in ["s3://lake", "s3a://lake/a/b/", "/tmp/customer", "file:///tmp/customer"] {
            assert_eq!(config(&[("HUDI_TABLE", accepted)]).unwrap().table, accepted);
        }
    }

    #[test]
    fn limits_follow_the_memory_unless_they_are_set() {
        let of = |variables: &[(&str, &str)]| {
            config(&[&[("HUDI_TABLE", "s3://lake/t")], variables].concat()).map(|config| config.max_bytes)
        };
        assert_eq!(of(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")]), Ok(64 << 20));
        assert_eq!(of(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "10240")]), Ok(256 << 20));
        assert_eq!(of(&[("HUDI_MAX_BYTES", "7")]), Ok(7));
        assert!(of(&[("HUDI_MAX_BYTES", "7 MB")]).unwrap_err().contains("HUDI_MAX_BYTES"));
    }

    #[test]
    fn a_lease_is_renewed_before_it_ends() {
        let of = |seconds: &str| config(&[("HUDI_TABLE", "s3://lake/t"), ("HUDI_LEASE_SECONDS", seconds)]);
        assert_eq!(of("").unwrap().lease_times(), LeaseTimes::default());
        let times = of("10").unwrap().lease_times();
        assert_eq!((times.validity.as_secs(), times.heartbeat.as_secs()), (10, 1));
        for refused in ["9", "3601", "-1", "1m"] {
            assert!(of(refused).unwrap_err().contains("HUDI_LEASE_SECONDS"), "{refused}");
        }
    }

    #[test]
    fn a_profile_is_a_name_or_an_object() {
        let of = |text: &str| {
            config(&[("HUDI_TABLE", "s3://lake/t"), ("HUDI_PROFILE", text)]).map(|config| config.profile)
        };
        assert_eq!(of("reference"), Ok(Profile::reference()));
        assert_eq!(of(r#"{ "preset": "reference" }"#), Ok(Profile::reference()));
        assert!(of("mine").unwrap_err().contains("HUDI_PROFILE"));
    }
}
