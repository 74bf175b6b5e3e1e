//! The default name of the service, from the configuration of the SDK.

use aws_types::{SdkConfig, service_config::ServiceConfigKey};

/// Returns the URL of the endpoint, if one is set, and the region: `https://example.com:eu-west-1`.
pub(super) fn of(sdk: &SdkConfig) -> Option<String> {
    let url = endpoint_url(sdk).map(|url| without_user(url.trim_end_matches('/')));
    let region = sdk.region().map(ToString::to_string);
    let parts: Vec<_> = [url, region].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(":"))
}

/// Returns the endpoint that the SDK's client uses: the one set in code, the one that the environment or the
/// profile sets for this service, or the one that they set for all services.
fn endpoint_url(sdk: &SdkConfig) -> Option<String> {
    let general = sdk.endpoint_url().map(str::to_owned);
    if sdk.get_origin("endpoint_url").is_client_config() {
        return general;
    }
    let key = ServiceConfigKey::builder()
        .service_id("Redshift Data")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok();
    key.and_then(|key| sdk.service_config()?.load_config(key)).or(general)
}

/// Removes a user and a password from a URL.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use aws_types::{region::Region, service_config::LoadServiceConfig};

    use super::*;

    #[derive(Debug)]
    struct Environment;

    impl LoadServiceConfig for Environment {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            (key.service_id() == "Redshift Data").then(|| "https://of-this-service".to_owned())
        }
    }

    #[test]
    fn two_endpoints_and_two_regions_have_different_names() {
        let sdk = |region, url: Option<&str>| {
            let mut sdk = SdkConfig::builder().region(Region::new(region));
            sdk.set_endpoint_url(url.map(str::to_owned));
            of(&sdk.build()).unwrap()
        };
        assert_eq!(sdk("eu-west-1", None), "eu-west-1");
        assert_eq!(sdk("us-east-1", Some("http://127.0.0.1:8711/")), "http://127.0.0.1:8711:us-east-1");
        assert_eq!(sdk("us-east-1", Some("http://me:secret@host/a@b")), "http://host/a@b:us-east-1");
        assert_eq!(of(&SdkConfig::builder().build()), None);
    }

    #[test]
    fn the_endpoint_of_the_environment_counts_too() {
        let sdk = SdkConfig::builder().region(Region::new("eu-west-1")).service_config(Environment).build();
        assert_eq!(of(&sdk).as_deref(), Some("https://of-this-service:eu-west-1"));
    }
}
