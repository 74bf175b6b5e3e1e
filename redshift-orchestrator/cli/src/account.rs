//! The default name of the service: the AWS account, and the endpoint and region of the configuration.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_redshiftdata::config::Credentials;
use aws_sdk_sts::{
    config::timeout::TimeoutConfig,
    error::{DisplayErrorContext, SdkError},
};
use redshift_orchestrator::{DataApiExecutor, Error, ErrorKind, Result};

/// Time after which a request for the account fails.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the name of the service, such as `111122223333:eu-west-1`. Many sources of credentials state the
/// account. If the source does not, requests the account from AWS STS. An endpoint that does not belong to
/// AWS, such as an emulator, has no account.
///
/// The name of the profile is not used, because two profiles can have the same account.
pub(crate) async fn service_name(sdk: &SdkConfig, credentials: &Credentials) -> Result<String> {
    let place = DataApiExecutor::service_name(sdk).unwrap_or_default();
    let account = match credentials.account_id() {
        Some(account) => Some(account.as_str().to_owned()),
        None if is_aws(&place) => Some(from_sts(&at_default_endpoint(sdk)).await?),
        None => None,
    };
    Ok(account.into_iter().chain([place]).collect::<Vec<_>>().join(":"))
}

/// Returns `true` for a region without an endpoint, and for the URL of an AWS endpoint.
fn is_aws(place: &str) -> bool {
    let Some((_, url)) = place.split_once("://") else { return true };
    let host = url.split([':', '/']).next().unwrap_or_default();
    ["amazonaws.com", "amazonaws.com.cn", "api.aws"]
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// Returns the configuration without the endpoint of the Data API.
fn at_default_endpoint(sdk: &SdkConfig) -> SdkConfig {
    let mut sdk = sdk.clone().into_builder();
    sdk.set_endpoint_url(None);
    sdk.build()
}

/// Requests the account of the credentials from AWS STS, which permits this request to every identity.
async fn from_sts(sdk: &SdkConfig) -> Result<String> {
    let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
    let conf = aws_sdk_sts::config::Builder::from(sdk).timeout_config(timeouts).build();
    let identity = aws_sdk_sts::Client::from_conf(conf).get_caller_identity().send().await;
    let identity = identity.map_err(|error| {
        let kind = match error {
            SdkError::ServiceError(_) => ErrorKind::Denied,
            _ => ErrorKind::NotSent,
        };
        unknown(kind).with_source(DisplayErrorContext(&error).to_string())
    })?;
    identity.account.ok_or_else(|| unknown(ErrorKind::Other))
}

fn unknown(kind: ErrorKind) -> Error {
    let message = "AWS STS did not return the account of the credentials, which distinguishes the runs of several accounts in a journal; \
                   name the account and the region with --service-name";
    Error::new(kind, message)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
    };

    use aws_config::{BehaviorVersion, Region};
    use aws_sdk_redshiftdata::config::SharedCredentialsProvider;

    use super::*;

    #[test]
    fn an_endpoint_belongs_to_aws_if_its_domain_does() {
        for place in ["eu-west-1", "https://vpce-1.redshift-data.eu-west-1.vpce.amazonaws.com:eu-west-1"] {
            assert!(is_aws(place), "{place}");
        }
        for place in ["http://127.0.0.1:8192:eu-west-1", "http://notamazonaws.com:eu-west-1", "http://x:r"] {
            assert!(!is_aws(place), "{place}");
        }
    }

    async fn sdk(endpoint: &str, credentials: &Credentials) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .load()
            .await
    }

    fn key() -> Credentials {
        Credentials::new("key", "secret", None, None, "test")
    }

    /// Regression: two profiles with equal workgroups in two accounts had the same name, and the second run
    /// was reported as finished without having run.
    #[tokio::test]
    async fn two_accounts_have_different_names() {
        let named = async |account: &str| {
            let credentials = Credentials::builder().access_key_id("key").secret_access_key("secret");
            let credentials = credentials.provider_name("test").account_id(account).build();
            let sdk = at_default_endpoint(&sdk("http://127.0.0.1:1", &credentials).await);
            service_name(&sdk, &credentials).await.unwrap()
        };
        assert_eq!(named("111122223333").await, "111122223333:eu-west-1");
        assert_eq!(named("444455556666").await, "444455556666:eu-west-1");
        let local = service_name(&sdk("http://127.0.0.1:8192", &key()).await, &key()).await.unwrap();
        assert_eq!(local, "http://127.0.0.1:8192:eu-west-1");
    }

    #[tokio::test]
    async fn the_account_of_a_plain_key_comes_from_sts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let reply = "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{reply}", reply.len()).unwrap();
            String::from_utf8(body).unwrap()
        });
        assert_eq!(from_sts(&sdk(&url, &key()).await).await.unwrap(), "111122223333");
        assert!(server.join().unwrap().contains("Action=GetCallerIdentity"));
        let error = from_sts(&sdk("http://127.0.0.1:1", &key()).await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSent);
        assert!(error.to_string().contains("--service-name"), "{error}");
    }
}
