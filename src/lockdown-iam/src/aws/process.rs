//! A program that gives credentials, as profiles name it in `credential_process`: AWS's own gives those of a sign-in by SSO.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::Credentials;

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at whether it has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// The most that it may print, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;

/// What it prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u64,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

/// Runs it.
///
/// # Errors
/// Why it gave none, in words.
pub(super) fn credentials(command: &str, within: Duration) -> Result<Credentials, String> {
    let failed = |why: String| format!("credential_process, {command:?}: {why}");
    let mut shell = Command::new("sh");
    // A group of its own: what it starts is ended with it.
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = shell.spawn().map_err(|error| failed(error.to_string()))?;
    let until = Instant::now() + within;
    let printed =
        output(&mut child, within).and_then(|printed| ended(&mut child, until).map(|status| (printed, status)));
    if printed.is_err() {
        // One that has ended already is ended.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    let (printed, status) = printed.map_err(failed)?;
    if !status.success() {
        return Err(failed(format!("it ended with {status}")));
    }
    read(&printed).map_err(failed)
}

/// Waits for its end: it may have nothing more to say, and go on.
fn ended(child: &mut Child, until: Instant) -> Result<ExitStatus, String> {
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        if Instant::now() >= until {
            return Err("it does not end".to_owned());
        }
        thread::sleep(PAUSE);
    }
}

fn output(child: &mut Child, within: Duration) -> Result<Vec<u8>, String> {
    let stdout = child.stdout.take().ok_or("it has no output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).map(|_| bytes);
        // Nobody waits any more.
        let _ = sender.send(read);
    });
    let read = receiver.recv_timeout(within).map_err(|_| format!("nothing came within {} s", within.as_secs()))?;
    let bytes = read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(format!("it prints more than {MAX_OUTPUT} bytes"));
    }
    Ok(bytes)
}

fn read(printed: &[u8]) -> Result<Credentials, String> {
    // What is there instead may be a secret: it is not shown.
    let printed: Printed = serde_json::from_slice(printed)
        .map_err(|_| "it does not print Version, AccessKeyId and SecretAccessKey in JSON".to_owned())?;
    if printed.version != 1 {
        return Err(format!("it prints Version {}, and 1 is known", printed.version));
    }
    Ok(Credentials {
        access_key: printed.access_key_id,
        secret: printed.secret_access_key,
        token: printed.session_token.filter(|token| !token.is_empty()),
        from: "credential_process".to_owned(),
    })
}

/// Runs it, for as long as it may take.
pub(super) fn run(command: &str) -> Result<Credentials, String> {
    credentials(command, WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_counts_and_nothing_that_it_does_not_end_well_with() {
        let good =
            r#"echo '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hidden","SessionToken":"T","Expiration":"x"}'"#;
        let found = run(good).unwrap();
        assert_eq!(
            (found.access_key.as_str(), found.secret.as_str(), found.token.as_deref()),
            ("A", "hidden", Some("T"))
        );
        for (command, said) in [
            (format!("{good}; exit 3"), "exit status: 3"),
            (good.replace(":1,", ":2,"), "Version 2"),
            ("echo '{\"SecretAccessKey\":\"hidden\"}'".to_owned(), "does not print"),
            ("head -c 70000 /dev/zero".to_owned(), "more than 65536 bytes"),
        ] {
            let why = run(&command).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        let short = Duration::from_millis(200);
        for (command, said) in [("sleep 60", "nothing came"), ("exec >&-; sleep 60", "does not end")] {
            let begun = Instant::now();
            let why = credentials(command, short).unwrap_err();
            assert!(why.contains(said) && begun.elapsed() < Duration::from_secs(30), "{why}");
        }
    }
}
