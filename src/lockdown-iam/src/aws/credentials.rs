//! Whose word AWS takes: from the environment, a file of profiles, or the instance's role by IMDSv2.

use std::{env, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use ureq::Agent;

use super::{
    process,
    profile::{self, Found},
};
use crate::{
    config::{self, Aws},
    failure::Failure,
    files, http,
};

/// The longest file of profiles that is read, in bytes.
const MAX_PROFILES: usize = 1 << 20;
/// The longest answer of an instance about itself, in bytes.
const MAX_METADATA: u64 = 64 << 10;
/// How long an instance may take to answer about itself.
const METADATA: Duration = Duration::from_secs(5);
/// For how long a token for asking an instance is good, in seconds.
const TOKEN_SECONDS: &str = "300";

/// A key of AWS.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
    /// Where they are from, in words.
    pub(crate) from: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} from {})", self.access_key, self.from)
    }
}

impl Credentials {
    /// Finds them.
    pub(crate) fn find(aws: &Aws) -> Result<Self, Failure> {
        match aws.credentials {
            config::From::Environment => of_environment(|name| env::var(name).ok())
                .ok_or_else(|| Failure::config("the environment has no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")),
            config::From::Profile => of_profile(aws),
            config::From::Instance => of_instance(aws),
            config::From::Auto => match of_environment(|name| env::var(name).ok()) {
                Some(found) => Ok(found),
                None if profiles(aws).is_some() => of_profile(aws),
                None => of_instance(aws),
            },
        }
    }
}

fn of_environment(get: impl Fn(&str) -> Option<String>) -> Option<Credentials> {
    let value = |name| get(name).filter(|value| !value.is_empty());
    Some(Credentials {
        access_key: value("AWS_ACCESS_KEY_ID")?,
        secret: value("AWS_SECRET_ACCESS_KEY")?,
        token: value("AWS_SESSION_TOKEN"),
        from: "the environment".to_owned(),
    })
}

/// The file of profiles, where one is named.
fn profiles(aws: &Aws) -> Option<PathBuf> {
    let named = env::var_os("AWS_SHARED_CREDENTIALS_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    aws.credentials_file.clone().or(named)
}

fn of_profile(aws: &Aws) -> Result<Credentials, Failure> {
    let path = profiles(aws)
        .ok_or_else(|| Failure::config("no file of profiles is named").but("name it in aws.credentials_file"))?;
    let text = files::text(&path, MAX_PROFILES)?;
    let found = match profile::credentials(&text, &aws.profile) {
        Ok(Found::Keys(found)) => Ok(found),
        Ok(Found::Process(command)) => files::is_ours(&path).and_then(|()| process::run(&command)),
        Err(why) => Err(why),
    };
    found.map_err(|why| Failure::config(format!("{}: {why}", path.display())))
}

/// What an instance says of its role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfRole {
    access_key_id: String,
    secret_access_key: String,
    token: String,
}

fn of_instance(aws: &Aws) -> Result<Credentials, Failure> {
    let at = &aws.metadata_endpoint;
    let agent = http::within_machine();
    let failed = |why: String| {
        Failure::unavailable(format!("the instance gives no credentials: {why}"))
            .but("give the instance a role, or name a profile in aws.credentials_file; lockdown-iam(8) has all ways")
    };
    let token =
        agent.put(format!("{at}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let token = token.config().timeout_global(Some(METADATA)).build().send_empty();
    let token = body(at, token).map_err(failed)?;
    let place = format!("{at}/latest/meta-data/iam/security-credentials/");
    let role = ask(&agent, &place, &token).map_err(failed)?;
    let role = role.lines().next().unwrap_or_default().trim();
    if role.is_empty() || role.contains(['/', '?', '#', '%']) {
        return Err(failed("it has no role".to_owned()));
    }
    let answer = ask(&agent, &format!("{place}{role}"), &token).map_err(failed)?;
    let of: OfRole =
        serde_json::from_str(&answer).map_err(|error| failed(format!("about the role {role}: {error}")))?;
    Ok(Credentials {
        access_key: of.access_key_id,
        secret: of.secret_access_key,
        token: Some(of.token),
        from: format!("the instance's role {role}"),
    })
}

fn ask(agent: &Agent, url: &str, token: &str) -> Result<String, String> {
    let request = agent.get(url).header("x-aws-ec2-metadata-token", token);
    body(url, request.config().timeout_global(Some(METADATA)).build().call())
}

fn body(at: &str, sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<String, String> {
    let mut response = sent.map_err(|error| http::describe(at, &error))?;
    match response.status().as_u16() {
        200 => response
            .body_mut()
            .with_config()
            .limit(MAX_METADATA)
            .read_to_string()
            .map_err(|error| http::describe(at, &error)),
        status => Err(format!("{at}: HTTP status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_in_the_environment_is_none() {
        let of = |pairs: &'static [(&str, &str)]| {
            of_environment(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(of(&[("AWS_ACCESS_KEY_ID", "A")]).is_none());
        assert!(of(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "")]).is_none());
        let found = of(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "hidden")]).unwrap();
        assert_eq!(found.token, None);
        assert!(!format!("{found:?}").contains("hidden"));
    }
}
