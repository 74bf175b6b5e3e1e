//! [`Profile`]: S3 credentials in the files of the AWS tools, `~/.aws/credentials` and `~/.aws/config`. The
//! object store reads only the variables and the roles of machines, containers and web identities.

use std::{collections::BTreeMap, path::PathBuf};

use hudi_scd::{Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// The settings of a profile whose keys must be fetched by another program.
const FETCHED: [&str; 5] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"];

/// The settings of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Profile(BTreeMap<String, String>);

impl Profile {
    /// Returns the profile that `AWS_PROFILE` names, or `default`; an empty one if there is none, or if the
    /// variables contain the keys.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the named profile does not exist; [`ErrorKind::Unsupported`] if its keys
    /// must be fetched.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if set("AWS_ACCESS_KEY_ID").is_some() {
            return Ok(Self::default());
        }
        let named = set("AWS_PROFILE");
        let name = named.as_deref().unwrap_or("default");
        let file = |variable: &str, below: &str| {
            let home = || Some(PathBuf::from(set("HOME").or_else(|| set("USERPROFILE"))?).join(below));
            set(variable).map(PathBuf::from).or_else(home)
        };
        let text = |path: Option<PathBuf>| {
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let config = text(file("AWS_CONFIG_FILE", ".aws/config"));
        let credentials = text(file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"));
        let in_config = section(&config, |title| {
            (title == name && name == "default")
                || title
                    .strip_prefix("profile")
                    .is_some_and(|rest| rest.starts_with(char::is_whitespace) && rest.trim() == name)
        });
        let in_credentials = section(&credentials, |title| title == name);
        if in_config.is_none() && in_credentials.is_none() {
            return match named {
                None => Ok(Self::default()),
                Some(name) => Err(Error::new(
                    ErrorKind::NotFound,
                    "there is no such profile in the files of the AWS tools",
                )
                .with_context("AWS_PROFILE", name)),
            };
        }
        let mut settings = in_config.unwrap_or_default();
        settings.extend(in_credentials.unwrap_or_default());
        let fetched = FETCHED.iter().find(|setting| settings.contains_key(**setting));
        if let (Some(setting), Some(name), false) =
            (fetched, &named, settings.contains_key("aws_access_key_id"))
        {
            return Err(Error::new(ErrorKind::Unsupported, "the keys of this profile must be fetched")
                .with_context("AWS_PROFILE", name)
                .with_context("setting", setting)
                .with_context("hint", "eval \"$(aws configure export-credentials --format env)\""));
        }
        Ok(Self(settings))
    }

    /// Returns the settings that the variables, which the builder contains, do not define, as options of the
    /// storage.
    pub(super) fn options(&self, variables: &AmazonS3Builder) -> Vec<(&'static str, String)> {
        let is_defined =
            |keys: &[AmazonS3ConfigKey]| keys.iter().any(|key| variables.get_config_value(key).is_some());
        let mut names = Vec::new();
        if self.0.contains_key("aws_access_key_id") {
            names.extend(
                ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"].map(|name| (name, name)),
            );
        }
        if !is_defined(&[AmazonS3ConfigKey::Region, AmazonS3ConfigKey::DefaultRegion]) {
            names.push(("aws_region", "region"));
        }
        if !is_defined(&[AmazonS3ConfigKey::Endpoint]) {
            names.push(("aws_endpoint", "endpoint_url"));
        }
        let setting = |(option, name): (&'static str, &str)| Some((option, self.0.get(name)?.clone()));
        names.into_iter().filter_map(setting).collect()
    }
}

/// Returns the settings of the sections with a matching title; of duplicate settings the last one counts.
fn section(text: &str, fits: impl Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        let plain = line.split(" #").next().unwrap_or_default().trim();
        if let Some(title) = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = fits(title.trim());
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        // Nested settings, such as those of one service, are indented.
        let is_setting = inside && !line.starts_with([' ', '\t', '#', ';']);
        if let (true, Some((name, value)), Some(settings)) = (is_setting, plain.split_once('='), &mut found) {
            let value = value.trim();
            if !value.is_empty() {
                settings.insert(name.trim().to_lowercase(), value.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = d\naws_secret_access_key=s # not it\n\n# x\n[work]\n\
        aws_access_key_id=w\naws_secret_access_key=a=b\naws_session_token=t\n";
    const CONFIG: &str = "[default]\nregion=eu-west-1\n[profile work]\nregion = eu-north-1\nservices = x\ns3 =\n  \
        endpoint_url = http://nested\nendpoint_url = http://localhost:9000\n[profile boss]\nrole_arn = arn\n[work]\nregion=not-this\n";

    fn profile(variables: &[(&str, &str)]) -> Result<Profile> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        std::fs::write(folder.path().join(".aws/credentials"), CREDENTIALS).unwrap();
        std::fs::write(folder.path().join(".aws/config"), CONFIG).unwrap();
        Profile::of(|name| match name {
            "HOME" => Some(folder.path().to_string_lossy().into_owned()),
            _ => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        })
    }

    fn built(profile: &Profile, mut builder: AmazonS3Builder) -> [Option<String>; 5] {
        use AmazonS3ConfigKey::{AccessKeyId, Endpoint, Region, SecretAccessKey, Token};
        for (option, value) in profile.options(&builder) {
            builder = builder.with_config(option.parse().unwrap(), value);
        }
        [AccessKeyId, SecretAccessKey, Token, Region, Endpoint].map(|key| builder.get_config_value(&key))
    }

    #[test]
    fn the_default_profile_is_taken_unless_another_is_named_or_the_variables_say_the_keys() {
        let some = |text: &str| Some(text.to_owned());
        let default = built(&profile(&[]).unwrap(), AmazonS3Builder::new());
        assert_eq!(default, [some("d"), some("s"), None, some("eu-west-1"), None]);
        let work = profile(&[("AWS_PROFILE", "work")]).unwrap();
        let all = [some("w"), some("a=b"), some("t"), some("eu-north-1"), some("http://localhost:9000")];
        assert_eq!(built(&work, AmazonS3Builder::new()), all);
        let said = AmazonS3Builder::new().with_region("us-east-2").with_endpoint("http://other");
        assert_eq!(built(&work, said)[3..], [some("us-east-2"), some("http://other")]);
        let keys = profile(&[("AWS_PROFILE", "work"), ("AWS_ACCESS_KEY_ID", "id")]).unwrap();
        assert_eq!(keys, Profile::default());
    }

    #[test]
    fn a_profile_that_does_not_do_is_named_with_a_hint() {
        let error = profile(&[("AWS_PROFILE", "nobody")]).unwrap_err();
        assert_eq!((error.kind(), error.context("AWS_PROFILE")), (ErrorKind::NotFound, Some("nobody")));
        let error = profile(&[("AWS_PROFILE", "boss")]).unwrap_err();
        assert_eq!((error.kind(), error.context("setting")), (ErrorKind::Unsupported, Some("role_arn")));
        assert!(error.context("hint").unwrap().contains("export-credentials"));
    }

    #[test]
    fn without_files_there_is_nothing_to_say() {
        assert_eq!(Profile::of(|_| None).unwrap(), Profile::default());
        assert_eq!(section("[a]\nx = 1\n[b]\n", |title| title == "b"), Some(BTreeMap::new()));
        assert_eq!(section("garbage\n=\n[", |_| true), None);
    }
}
