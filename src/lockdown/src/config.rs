//! The client's own configuration: where the server is, and whose word on the roster counts.

use std::{
    env,
    path::{Path, PathBuf},
};

use document::{Checked, Origin, Settings};
use record::Person;
use serde::Deserialize;

use crate::{
    failure::{Exit, Failure},
    files,
};

/// Names the file, before all others.
const VARIABLE: &str = "LOCKDOWN_CONFIG";
/// Where it is for everybody on this machine.
const SYSTEM: &str = "/etc/lockdown/config.toml";
/// The longest configuration, in bytes.
const MAX_CONFIG: usize = 1 << 20;

/// What stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<Origin>,
    ca_file: Option<String>,
    key: Option<String>,
    person: Option<Person>,
    stack: Settings,
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where it came from.
    pub(crate) path: PathBuf,
    server: Option<Origin>,
    /// The authorities to trust instead of the system's, in PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// The key to sign with.
    pub(crate) key: Option<String>,
    /// Who types.
    pub(crate) person: Option<Person>,
    /// `[stack]`, as hosts have it.
    pub(crate) trust: Checked,
}

impl Config {
    /// Reads it from where it is.
    pub(crate) fn load() -> Result<Self, Failure> {
        let places =
            places(env::var_os(VARIABLE).map(PathBuf::from), env::var_os("XDG_CONFIG_HOME").map(PathBuf::from));
        let Some(path) = places.iter().find(|path| path.exists()) else {
            let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
            return Err(Failure::config(format!("there is no configuration: no {}", places.join(", no "))).but(
                "lockdown(1) has an example; [stack] is the same as on the hosts, and `lockdown check` says what is missing",
            ));
        };
        let text = files::text(path, MAX_CONFIG).map_err(|failure| failure.exiting(Exit::Config))?;
        Self::parse(path, &text)
    }

    /// Reads its text.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let wrong = |error: String| Failure::config(format!("{}: {}", path.display(), error.trim_end()));
        let file: File = toml::from_str(text).map_err(|error| wrong(located(&error, text)))?;
        let trust = file.stack.check().map_err(|error| wrong(error.to_string()))?;
        let ca_file = file.ca_file.as_deref().map(files::expand);
        Ok(Self { path: path.to_owned(), server: file.server, ca_file, key: file.key, person: file.person, trust })
    }

    /// The server.
    pub(crate) fn server(&self) -> Result<&Origin, Failure> {
        self.server.as_ref().ok_or_else(|| {
            Failure::config(format!("{} names no server", self.path.display()))
                .but("write server = \"https://compliance.example.com\", or write the document to a file with --out")
        })
    }

    /// Whether there is a server at all.
    pub(crate) fn has_server(&self) -> bool {
        self.server.is_some()
    }
}

fn places(named: Option<PathBuf>, xdg: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(named) = named.filter(|path| !path.as_os_str().is_empty()) {
        return vec![named];
    }
    let own = xdg.filter(|path| path.is_absolute()).or_else(|| env::home_dir().map(|home| home.join(".config")));
    own.map(|own| own.join("lockdown/config.toml")).into_iter().chain([PathBuf::from(SYSTEM)]).collect()
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

    pub(crate) const EXAMPLE: &str = include_str!("../config.example.toml");

    pub(crate) fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(Path::new("config.toml"), text)
    }

    #[test]
    fn the_example_is_a_configuration() {
        let config = parse(EXAMPLE).unwrap();
        assert_eq!(config.server().unwrap().as_str(), "https://compliance.example.com");
        assert_eq!(config.trust.threshold(), 1);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (from, to, said) in [
            ("server = ", "servre = ", "line "),
            ("https://compliance", "http://compliance", "https://HOST"),
            ("threshold = 1", "threshold = 0", "anybody could sign"),
            ("threshold = 1", "threshold = 2", "nobody could ever sign"),
        ] {
            let text = EXAMPLE.replacen(from, to, 1);
            assert_ne!(text, EXAMPLE, "{from}");
            let failure = parse(&text).unwrap_err();
            assert!(failure.words().contains(said), "{}", failure.words());
            assert_eq!(failure.exit, Exit::Config);
        }
    }

    #[test]
    fn a_file_that_is_named_is_the_only_one() {
        assert_eq!(places(Some("/x".into()), None), [PathBuf::from("/x")]);
        let both = places(None, Some("/home/a/.config".into()));
        assert_eq!(both, [PathBuf::from("/home/a/.config/lockdown/config.toml"), PathBuf::from(SYSTEM)]);
    }
}
