//! One call of AWS: signed, sent, tried again where that may help, and counted.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant, SystemTime},
};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use ureq::Agent;

use super::{Credentials, answers};
use crate::{config, http};

/// The longest answer that is read, in bytes: a page of 1,000 users takes some 400 KiB.
const MAX_ANSWER: u64 = 4 << 20;
/// How long one try may take: IAM answers within a second.
const TRY: Duration = Duration::from_secs(8);
/// How often a call is made at most.
const TRIES: u32 = 5;
/// How long is waited before the second try; twice as long before each further one.
const BACKOFF: Duration = Duration::from_millis(500);
/// How much of what AWS says is shown, in characters.
const MAX_SAID: usize = 300;

/// Which service is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Iam,
    Sts,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Iam => "iam",
            Self::Sts => "sts",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Iam => "2010-05-08",
            Self::Sts => "2011-06-15",
        }
    }
}

/// How often each action was called, tries that failed among them.
pub(crate) type Calls = BTreeMap<&'static str, u64>;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// AWS has nothing of this name: `NoSuchEntity`, in a whole answer of its own.
    NoSuchEntity(String),
    /// It may not be asked.
    Denied(String),
    /// Anything else. Nothing follows from it.
    Failed(String),
}

impl CallError {
    /// In words.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::NoSuchEntity(words) | Self::Denied(words) | Self::Failed(words) => words,
        }
    }
}

/// AWS as one account of it is reached.
#[derive(Debug)]
pub(crate) struct Access {
    agent: Agent,
    aws: config::Aws,
    credentials: Credentials,
    until: Instant,
}

/// What one try came to.
enum Tried {
    Answer(String),
    Again(String),
    Over(CallError),
}

impl Access {
    /// Nothing is sent yet. Calls that would take longer than `until` are not made.
    pub(crate) fn new(agent: Agent, aws: config::Aws, credentials: Credentials, until: Instant) -> Self {
        Self { agent, aws, credentials, until }
    }

    /// The same with other credentials.
    pub(crate) fn with(&self, credentials: Credentials) -> Self {
        Self { agent: self.agent.clone(), aws: self.aws.clone(), credentials, until: self.until }
    }

    /// Who asks.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Where the credentials are from.
    pub(crate) fn whose(&self) -> &str {
        &self.credentials.from
    }

    /// Calls an action, and reads its answer.
    pub(crate) fn call<T>(
        &self,
        service: Service,
        action: &'static str,
        parameters: &[(&str, &str)],
        calls: &mut Calls,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, CallError> {
        let fixed = [("Action", action), ("Version", service.version())];
        let body = form(fixed.iter().chain(parameters));
        let failed = |why: String| CallError::Failed(format!("{}:{action}: {why}", service.name()));
        let mut wait = BACKOFF;
        let mut why = String::new();
        for tries in 1..=TRIES {
            if Instant::now() >= self.until {
                return Err(failed(format!("the time of this run is over {why}")));
            }
            *calls.entry(action).or_default() += 1;
            match self.once(service, action, &body) {
                Tried::Answer(text) => match read(&text) {
                    Ok(answer) => return Ok(answer),
                    // It may have been cut short on its way.
                    Err(odd) => why = format!("the answer is none: {odd}"),
                },
                Tried::Again(said) => why = said,
                Tried::Over(error) => return Err(error),
            }
            if tries < TRIES {
                thread::sleep(wait.min(self.until.saturating_duration_since(Instant::now())));
                wait *= 2;
            }
        }
        Err(failed(format!("{why}, {TRIES} times")))
    }

    fn once(&self, service: Service, action: &str, body: &str) -> Tried {
        let endpoint = match service {
            Service::Iam => &self.aws.endpoint,
            Service::Sts => &self.aws.sts_endpoint,
        };
        let name = service.name();
        let url = format!("{endpoint}/");
        let signed = match self.signed(name, &url, body) {
            Ok(headers) => headers,
            Err(why) => return Tried::Over(CallError::Failed(format!("{name}:{action} cannot be signed: {why}"))),
        };
        let mut request = self.agent.post(&url).header("content-type", FORM);
        for (header, value) in &signed {
            request = request.header(header, value);
        }
        let mut response = match request.config().timeout_global(Some(TRY)).build().send(body) {
            Ok(response) => response,
            Err(error) => return Tried::Again(http::describe(endpoint, &error)),
        };
        let status = response.status().as_u16();
        let text = match response.body_mut().with_config().limit(MAX_ANSWER).read_to_string() {
            Ok(text) => text,
            Err(error) => return Tried::Again(http::describe(endpoint, &error)),
        };
        if status == 200 { Tried::Answer(text) } else { refusal(&format!("{name}:{action}"), status, &text) }
    }

    fn signed(&self, service: &str, url: &str, body: &str) -> Result<Vec<(String, String)>, String> {
        let Credentials { access_key, secret, token, .. } = &self.credentials;
        let identity =
            aws_credential_types::Credentials::new(access_key, secret, token.clone(), None, "lockdown-iam").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.aws.region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let headers = [("content-type", FORM)].into_iter();
        let request = SignableRequest::new("POST", url, headers, SignableBody::Bytes(body.as_bytes()));
        let request = request.map_err(|error| error.to_string())?;
        let (instructions, _) = sign(request, &parameters).map_err(|error| error.to_string())?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// What follows from an answer that is none.
fn refusal(what: &str, status: u16, text: &str) -> Tried {
    let Some(problem) = answers::problem(text) else {
        // A balancer's or a proxy's page: it says nothing about a user.
        let words = format!("HTTP status {status}, without a word of AWS's");
        return if status >= 500 || status == 429 { Tried::Again(words) } else { Tried::Over(failed(what, &words)) };
    };
    let said: String = problem.message.chars().take(MAX_SAID).collect();
    let code: String = problem.code.chars().take(MAX_SAID).collect();
    let words = format!("{said} ({code})");
    match code.as_str() {
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" | "SlowDown" => {
            Tried::Again(words)
        }
        _ if status >= 500 || status == 429 => Tried::Again(words),
        "NoSuchEntity" if status == 404 => Tried::Over(CallError::NoSuchEntity(format!("{what}: {words}"))),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            Tried::Over(CallError::Denied(format!("{what}: {words}")))
        }
        _ => Tried::Over(failed(what, &words)),
    }
}

fn failed(what: &str, words: &str) -> CallError {
    CallError::Failed(format!("{what}: {words}"))
}

/// A body as forms have it.
fn form<'a>(parameters: impl Iterator<Item = &'a (&'a str, &'a str)>) -> String {
    parameters.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    let byte = |b: u8| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_says_is_told_from_what_others_say() {
        let error = |code: &str| {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error><RequestId>1</RequestId></ErrorResponse>"
            )
        };
        let is_again = |status, text: &str| matches!(refusal("iam:X", status, text), Tried::Again(_));
        for code in ["Throttling", "RequestLimitExceeded"] {
            assert!(is_again(400, &error(code)), "{code}");
        }
        for status in [429, 500, 502, 503, 504] {
            assert!(is_again(status, "<html>"), "{status}");
            assert!(is_again(status, &error("NoSuchEntity")), "{status}");
        }
        let is_gone =
            |status, text: &str| matches!(refusal("iam:X", status, text), Tried::Over(CallError::NoSuchEntity(_)));
        assert!(is_gone(404, &error("NoSuchEntity")));
        for (status, text) in [
            (404, "<html>NoSuchEntity</html>".to_owned()),
            (404, error("NoSuchEntityX")),
            (404, error("NoSuchEntity").replace("</ErrorResponse>", "")),
            (403, error("NoSuchEntity")),
            (404, String::new()),
        ] {
            assert!(!is_gone(status, &text), "{status} {text}");
        }
        assert!(matches!(refusal("iam:X", 403, &error("AccessDenied")), Tried::Over(CallError::Denied(_))));
    }

    #[test]
    fn a_form_has_each_character_that_could_mean_something_else_encoded() {
        assert_eq!(form([("A", "x"), ("UserName", "a+b=c,d &@")].iter()), "A=x&UserName=a%2Bb%3Dc%2Cd%20%26%40");
    }
}
