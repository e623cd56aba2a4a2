//! `/etc/lockdown/iam.toml`: where IAM and the server are, which groups may be given what, and whose word on the roster counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use document::{AccountName, Checked, Origin, Settings, Source, StackPattern};
use serde::Deserialize;

use crate::{failure::Failure, files};

/// The longest configuration, in bytes.
const MAX_CONFIG: usize = 1 << 20;
/// The most AWS accounts.
const MAX_ACCOUNTS: usize = 64;
/// The most groups of one account.
const MAX_GROUPS: usize = 300;
/// How many users who are known already are looked at again in one run, for their tags and keys, unless the configuration says
/// otherwise: two calls each, and IAM takes some 10 to 20 a second.
pub(crate) const DEFAULT_USERS_PER_RUN: usize = 250;

/// What stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The compliance API.
    pub(crate) server: Origin,
    /// The authorities to trust instead of the system's, in PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// An auditor's token of the compliance API, to read the feed with; without it, the credential `token`.
    pub(crate) token_file: Option<PathBuf>,
    /// The feeder's key; without it, the credential `feeder-key`.
    pub(crate) key: Option<PathBuf>,
    /// Whose people these are, as the roster's feeder has it.
    #[serde(default = "iam")]
    pub(crate) source: Source,
    /// What becomes of joiners and changes.
    #[serde(default)]
    pub(crate) add: Add,
    /// The tag by which a user is disabled.
    #[serde(default)]
    pub(crate) disabled_tag: Tag,
    /// How many users who are known already are looked at again in one run.
    #[serde(default = "users_per_run")]
    pub(crate) users_per_run: usize,
    /// Where AWS is, and who asks.
    #[serde(default)]
    pub(crate) aws: Aws,
    /// The accounts of AWS, and their groups.
    #[serde(rename = "account")]
    pub(crate) accounts: Vec<AwsAccount>,
    /// `[stack]`, as hosts have it.
    pub(crate) stack: Settings,
}

fn iam() -> Source {
    "iam".parse().expect("a source")
}

fn users_per_run() -> usize {
    DEFAULT_USERS_PER_RUN
}

/// What becomes of joiners and changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Add {
    /// People sign them.
    #[default]
    Propose,
    /// The feeder's own key does, which stands in `stack.roster.automatic` of the hosts.
    Automatic,
}

/// A tag of a user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Default for Tag {
    fn default() -> Self {
        Self { key: "ssh-access".to_owned(), value: "disabled".to_owned() }
    }
}

/// Where AWS is, and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Aws {
    /// IAM has one endpoint for all regions of a partition.
    pub(crate) endpoint: String,
    /// Where roles are assumed.
    pub(crate) sts_endpoint: String,
    /// The region that requests are signed for.
    pub(crate) region: String,
    /// Where the credentials come from.
    pub(crate) credentials: From,
    /// The file of profiles.
    pub(crate) credentials_file: Option<PathBuf>,
    /// Which of them.
    pub(crate) profile: String,
    /// Where an instance asks about itself.
    pub(crate) metadata_endpoint: String,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            endpoint: "https://iam.amazonaws.com".to_owned(),
            sts_endpoint: "https://sts.us-east-1.amazonaws.com".to_owned(),
            region: "us-east-1".to_owned(),
            credentials: From::default(),
            credentials_file: None,
            profile: "default".to_owned(),
            metadata_endpoint: "http://169.254.169.254".to_owned(),
        }
    }
}

/// Where credentials come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum From {
    /// The environment where it has some, else the file of profiles where it is named, else the instance.
    #[default]
    Auto,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    Environment,
    /// A file of profiles.
    Profile,
    /// The instance's role, by IMDSv2.
    Instance,
}

/// An account of AWS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AwsAccount {
    /// Its 12 digits.
    pub(crate) id: String,
    /// The role to assume there; without it, the credentials are the account's own.
    pub(crate) role: Option<String>,
    /// What that role's trust policy asks for.
    pub(crate) external_id: Option<String>,
    /// The groups whose members may log in.
    #[serde(rename = "group")]
    pub(crate) groups: Vec<Group>,
}

/// A group of IAM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: String,
    /// What its members may be given.
    pub(crate) accounts: BTreeMap<StackPattern, BTreeSet<AccountName>>,
    /// Whether an empty group that had members is believed.
    #[serde(default)]
    pub(crate) may_be_empty: bool,
}

impl Config {
    /// Reads it.
    pub(crate) fn load(path: &Path) -> Result<(Self, Checked), Failure> {
        Self::parse(path, &files::text(path, MAX_CONFIG)?)
    }

    /// Reads its text.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<(Self, Checked), Failure> {
        let wrong = |error: String| Failure::config(format!("{}: {}", path.display(), error.trim_end()));
        let config: Self = toml::from_str(text).map_err(|error| wrong(located(&error, text)))?;
        let trust = config.stack.clone().check().map_err(|error| wrong(error.to_string()))?;
        config.check().map_err(wrong)?;
        Ok((config, trust))
    }

    fn check(&self) -> Result<(), String> {
        for (what, url) in [("endpoint", &self.aws.endpoint), ("sts_endpoint", &self.aws.sts_endpoint)] {
            if !(is_https(url) || is_loopback(url)) {
                return Err(format!("aws.{what} is {url:?}: write https://HOST, or http:// to this machine itself"));
            }
        }
        let metadata = &self.aws.metadata_endpoint;
        if !(is_loopback(metadata) || ["http://169.254.169.254", "http://[fd00:ec2::254]"].contains(&metadata.as_str()))
        {
            return Err(format!("aws.metadata_endpoint is {metadata:?}: write http://169.254.169.254"));
        }
        if self.users_per_run == 0 {
            return Err("users_per_run is 0, and a tag would never be seen: write 1 or more".to_owned());
        }
        if self.accounts.is_empty() || self.accounts.len() > MAX_ACCOUNTS {
            return Err(format!("it names {} accounts of AWS: 1 to {MAX_ACCOUNTS} are taken", self.accounts.len()));
        }
        let mut seen = BTreeSet::new();
        for account in &self.accounts {
            account.check()?;
            if !seen.insert(&account.id) {
                return Err(format!("the account {} is there twice: name all of its groups in one place", account.id));
            }
        }
        Ok(())
    }
}

impl AwsAccount {
    fn check(&self) -> Result<(), String> {
        let id = &self.id;
        if id.len() != 12 || !id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("account.id is {id:?}: write the 12 digits of an account of AWS"));
        }
        let role_of = |role: &String| role.split(':').nth(4).map(str::to_owned);
        if let Some(role) = self.role.as_ref().filter(|role| role_of(role).as_deref() != Some(id)) {
            return Err(format!("account.role of {id} is {role:?}: write arn:aws:iam::{id}:role/NAME"));
        }
        if self.groups.is_empty() || self.groups.len() > MAX_GROUPS {
            return Err(format!("the account {id} has {} groups: 1 to {MAX_GROUPS} are taken", self.groups.len()));
        }
        let mut seen = BTreeSet::new();
        for group in &self.groups {
            let good = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
            if group.name.is_empty() || group.name.len() > 128 || !group.name.chars().all(good) {
                return Err(format!("the group {:?} of {id} can be no group of IAM", group.name));
            }
            if !seen.insert(group.name.to_ascii_lowercase()) {
                return Err(format!("the group {} of {id} is there twice", group.name));
            }
            if group.accounts.is_empty() || group.accounts.values().any(BTreeSet::is_empty) {
                return Err(format!(
                    "the group {} of {id} gives no accounts: accounts = {{ web = [\"ubuntu\"] }}",
                    group.name
                ));
            }
        }
        Ok(())
    }
}

fn is_https(url: &str) -> bool {
    url.strip_prefix("https://").is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']))
}

/// Whether this is this machine itself, without TLS.
pub(crate) fn is_loopback(url: &str) -> bool {
    let Some(place) = url.strip_prefix("http://") else { return false };
    let host =
        place.rsplit_once(':').map_or(place, |(host, port)| if port.parse::<u16>().is_ok() { host } else { place });
    ["127.0.0.1", "[::1]", "localhost"].contains(&host)
}

/// What is wrong, and in which line.
fn located(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{place}{}", error.message())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = include_str!("../iam.example.toml");

    fn parse(text: &str) -> Result<(Config, Checked), Failure> {
        Config::parse(Path::new("iam.toml"), text)
    }

    #[test]
    fn the_example_is_a_configuration() {
        let (config, trust) = parse(EXAMPLE).unwrap();
        assert_eq!(config.server.as_str(), "https://compliance.example.com");
        assert_eq!((config.add, trust.threshold()), (Add::Propose, 1));
        assert_eq!(config.accounts.len(), 2);
        // What is commented out is what counts without it.
        let all: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.contains(" = ") => rest,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let (written, _) = parse(&all).unwrap();
        assert_eq!(written.disabled_tag, config.disabled_tag);
        assert_eq!((written.users_per_run, &written.source), (config.users_per_run, &config.source));
        assert_eq!(Aws { credentials_file: None, ..written.aws }, config.aws);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, said) in [
            ("server = ", "servre = ", "servre"),
            ("id = \"111122223333\"", "id = \"1111\"", "12 digits"),
            ("id = \"111122223333\"", "id = \"444455556666\"", "twice"),
            ("role/lockdown-iam\"", "role/lockdown-iam\"\n[account.x]", "unknown field"),
            ("::444455556666:role", "::444455556667:role", "arn:aws:iam::444455556666:role/NAME"),
            ("{ web = [\"ubuntu\"] }", "{ }", "gives no accounts"),
            ("[aws]", "[aws]\nendpoint = \"http://iam.example.com\"", "https://HOST"),
            ("[aws]", "[aws]\nendpoint = \"http://localhost.example.com:80\"", "https://HOST"),
            ("[aws]", "[aws]\nmetadata_endpoint = \"http://192.0.2.1\"", "169.254.169.254"),
            ("threshold = 1", "threshold = 0", "anybody could sign"),
        ] {
            let text = EXAMPLE.replacen(from, to, 1);
            assert_ne!(text, EXAMPLE, "{from}");
            let words = parse(&text).unwrap_err().words();
            assert!(words.contains(said), "{from} {to}: {words}");
        }
    }
}
