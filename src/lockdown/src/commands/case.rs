//! `case` and `verify`: a case file fetched, and verified.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use terminal::plain;

use crate::{
    cli,
    client::Client,
    failure::{Exit, Failure},
    files,
    output::{Done, Voice},
};

/// The token, where no file has it.
const TOKEN: &str = "COMPLIANCE_TOKEN";
/// The longest file with a token, and with keys, in bytes.
const MAX_TOKEN: usize = 4096;
const MAX_KEYS: usize = 1 << 20;
/// How long a case file may take to come.
const WHOLE: Duration = Duration::from_secs(3600);

/// What was fetched.
#[derive(Debug, Serialize)]
struct Fetched {
    file: PathBuf,
    bytes: u64,
}

/// Fetches a case file. It appears under its name once it is whole.
pub(crate) fn fetch(args: &cli::Case, client: &Client) -> Result<Done, Failure> {
    let refused = |error: std::io::Error| Failure::refused("file", format!("{}: {error}", args.out.display()));
    if args.out.exists() {
        return Err(
            Failure::refused("file", format!("{} is there already", args.out.display())).but("name another with -o")
        );
    }
    let token = token(args.token_file.as_deref())?;
    let beside = beside(&args.out);
    let fetched = create(&beside).map_err(refused).and_then(|file| {
        let mut to = BufWriter::new(file);
        let bytes = client.server()?.download(&path(args), &token, &mut to, WHOLE)?;
        let file = to.into_inner().map_err(|error| refused(error.into_error()))?;
        file.sync_all().and_then(|()| fs::rename(&beside, &args.out)).map_err(refused)?;
        Ok(Fetched { file: args.out.clone(), bytes })
    });
    if fetched.is_err() {
        let _ = fs::remove_file(&beside);
    }
    let words = |fetched: &Fetched| {
        let file = plain(&fetched.file.display().to_string());
        format!("{file}: {} bytes\nlockdown verify {file} --server-key FILE says whether it holds\n", fetched.bytes)
    };
    Ok(client.voice.show(&fetched?, words))
}

fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}

/// Evidence is for whoever asked for it.
fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn token(file: Option<&Path>) -> Result<String, Failure> {
    const TOLD: &str =
        "name a file with --token-file, or set COMPLIANCE_TOKEN: compliance-api token create --role auditor";
    let text = match file {
        Some(file) => files::text(file, MAX_TOKEN)?,
        None => env::var(TOKEN).map_err(|_| Failure::usage("no auditor's token was given").but(TOLD))?,
    };
    let token = text.trim();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_token { Ok(token.to_owned()) } else { Err(Failure::usage("what was given is no token").but(TOLD)) }
}

fn path(args: &cli::Case) -> String {
    let given = [
        ("person", args.person.as_ref().map(|one| one.as_str())),
        ("host", args.host.as_ref().map(|one| one.as_str())),
        ("stack", args.stack.as_ref().map(|one| one.as_str())),
        ("from", Some(args.from.as_str())),
        ("to", args.to.as_deref()),
    ];
    let pairs = given.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={}", encoded(value))));
    format!("/v1/case?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Text as a value of a query.
fn encoded(text: &str) -> String {
    let one = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}

/// Verifies a case file.
pub(crate) fn verify(args: &cli::Verify, voice: Voice) -> Result<Done, Failure> {
    let wrong =
        |path: &Path, why: &dyn std::fmt::Display| Failure::refused("file", format!("{}: {why}", path.display()));
    let keys = match &args.server_key {
        Some(path) => Some(case::keys(&files::text(path, MAX_KEYS)?).map_err(|why| wrong(path, &why))?),
        None => None,
    };
    let file = File::open(&args.file).map_err(|error| wrong(&args.file, &error))?;
    let report = case::verify(BufReader::with_capacity(1 << 16, file), keys);
    let done = voice.show(&report, |report| report.words().lines().map(|line| plain(line) + "\n").collect());
    Ok(if report.good { done } else { done.exiting(Exit::Refused) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_encoded_and_a_token_is_one_word() {
        assert_eq!(encoded("ann+ops@example"), "ann%2Bops%40example");
        assert_eq!(encoded("2026-01-01T00:00:00+01:00"), "2026-01-01T00%3A00%3A00%2B01%3A00");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (text, is_good) in [("ca_auditor_abc-D9\n", true), ("", false), ("two words", false), ("a\r\nb: c", false)]
        {
            fs::write(&file, text).unwrap();
            assert_eq!(token(Some(&file)).is_ok(), is_good, "{text:?}");
        }
    }
}
