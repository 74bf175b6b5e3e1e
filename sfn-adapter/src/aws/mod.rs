//! Thin implementations of the handlers' traits over the AWS SDK.

#[cfg(any(feature = "glue", feature = "hudi"))]
mod bucket;
#[cfg(feature = "glue")]
mod glue;
mod http;
#[cfg(feature = "hudi")]
mod lake;
#[cfg(feature = "callback")]
mod step_functions;

use std::{collections::BTreeMap, time::Duration};

use aws_credential_types::{Credentials, attributes::AccountId, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_types::{
    SdkConfig,
    region::Region,
    sdk_config::{RetryConfig, TimeoutConfig},
    service_config::{LoadServiceConfig, ServiceConfigKey},
};
use redshift_orchestrator::{DataApiExecutor, Target};

use crate::Error;

#[cfg(feature = "glue")]
pub use glue::{S3Tables, glue, journal};
#[cfg(feature = "hudi")]
pub use lake::S3Lake;
#[cfg(feature = "callback")]
pub use step_functions::StepFunctions;

/// Time to connect after which a request counts as not sent. The [invocation](crate::Invocation), which knows
/// the remaining time, detects lost responses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The services whose endpoints variables may change, by the ends of the variables' names.
const SERVICES: [&str; 3] = ["GLUE", "REDSHIFT_DATA", "SFN"];

/// Creates the SDK's configuration from variables, usually the environment.
///
/// AWS Lambda sets the credentials of the function's role as variables. No file is read and no service is
/// requested for them or for settings. `AWS_ENDPOINT_URL`, with or without the name of a service,
/// `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT` and `AWS_MAX_ATTEMPTS` mean what they mean to every AWS SDK.
///
/// # Errors
/// Returns [`Error::Config`], which names the variable that is missing or invalid.
pub fn sdk(region: &str, variable: impl Fn(&str) -> Option<String>) -> Result<SdkConfig, Error> {
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let required = |name: &str| {
        variable(name).ok_or_else(|| {
            Error::Config(format!("set {name}; AWS Lambda sets it to a credential of the function's role"))
        })
    };
    let mut credentials = Credentials::builder()
        .access_key_id(required("AWS_ACCESS_KEY_ID")?)
        .secret_access_key(required("AWS_SECRET_ACCESS_KEY")?)
        .provider_name("Environment");
    credentials.set_session_token(variable("AWS_SESSION_TOKEN"));
    credentials.set_account_id(variable("AWS_ACCOUNT_ID").map(AccountId::from));

    let switch = |name: &str| match variable(name).as_deref().map(str::trim) {
        None => Ok(None),
        Some(value) if value.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(value) if value.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(_) => Err(Error::Config(format!("{name} must be true or false"))),
    };
    let attempts = variable("AWS_MAX_ATTEMPTS").map(|value| match value.trim().parse() {
        Ok(attempts @ 1..) => Ok(RetryConfig::standard().with_max_attempts(attempts)),
        _ => Err(Error::Config("AWS_MAX_ATTEMPTS must be a number from 1".to_owned())),
    });
    let endpoints = SERVICES.iter().filter_map(|service| {
        let name = format!("AWS_ENDPOINT_URL_{service}");
        variable(&name).map(|url| (*service, url))
    });
    let mut sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials.build()))
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .service_config(Endpoints(endpoints.collect()))
        .http_client(http::client());
    sdk.set_endpoint_url(variable("AWS_ENDPOINT_URL"));
    sdk.set_use_fips(switch("AWS_USE_FIPS_ENDPOINT")?);
    sdk.set_use_dual_stack(switch("AWS_USE_DUALSTACK_ENDPOINT")?);
    sdk.set_retry_config(attempts.transpose()?);
    Ok(sdk.build())
}

/// Endpoints of single services.
#[derive(Debug)]
struct Endpoints(BTreeMap<&'static str, String>);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().replace(' ', "_").to_uppercase();
        (key.env() == "AWS_ENDPOINT_URL").then(|| self.0.get(service.as_str()).cloned()).flatten()
    }
}

/// Returns the executor for a warehouse. The SDK does not retry requests, because the handlers do.
pub fn executor(sdk: &SdkConfig, target: Target) -> DataApiExecutor {
    DataApiExecutor::new(sdk, target)
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::ProvideCredentials;

    use super::*;

    fn configured(changes: &[(&str, &str)]) -> Result<SdkConfig, Error> {
        let mut variables =
            BTreeMap::from([("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "hush")]);
        variables.extend(changes.iter().copied());
        sdk("eu-west-1", |name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn refused(changes: &[(&str, &str)]) -> String {
        configured(changes).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn credentials_are_those_of_the_variables() {
        let sdk = configured(&[("AWS_SESSION_TOKEN", "token")]).unwrap();
        let found = sdk.credentials_provider().unwrap().provide_credentials().await.unwrap();
        assert_eq!((found.access_key_id(), found.session_token()), ("AKIDEXAMPLE", Some("token")));
        let text = refused(&[("AWS_SECRET_ACCESS_KEY", " ")]);
        assert!(text.starts_with("set AWS_SECRET_ACCESS_KEY;"), "{text}");
    }

    #[test]
    fn an_endpoint_of_a_service_precedes_the_one_of_all_services() {
        let all = ("AWS_ENDPOINT_URL", "http://all");
        let endpoint =
            |changes: &[(&str, &str)]| DataApiExecutor::service_name(&configured(changes).unwrap()).unwrap();
        assert_eq!(endpoint(&[]), "eu-west-1");
        assert!(endpoint(&[all]).contains("http://all"));
        let both = endpoint(&[all, ("AWS_ENDPOINT_URL_REDSHIFT_DATA", "http://one")]);
        assert!(both.contains("http://one") && !both.contains("http://all"), "{both}");
    }

    #[test]
    fn an_invalid_setting_is_named() {
        let sdk = configured(&[("AWS_USE_FIPS_ENDPOINT", "True"), ("AWS_MAX_ATTEMPTS", "5")]).unwrap();
        assert_eq!((sdk.use_fips(), sdk.use_dual_stack()), (Some(true), None));
        assert_eq!(sdk.retry_config().unwrap().max_attempts(), 5);
        assert_eq!(refused(&[("AWS_USE_FIPS_ENDPOINT", "1")]), "AWS_USE_FIPS_ENDPOINT must be true or false");
        assert_eq!(refused(&[("AWS_MAX_ATTEMPTS", "0")]), "AWS_MAX_ATTEMPTS must be a number from 1");
    }
}
