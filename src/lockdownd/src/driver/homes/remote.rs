//! The lane for remote file systems: a process of its own.
//!
//! Whoever waits for a FUSE or NFS server that has taken the question waits in the kernel, and cannot even be killed. A
//! thread of the daemon that did so would keep the daemon from ending, and so from being started again. The child does in
//! homes what the local lane's thread does, tells on its standard output where it is at work and what it has found, and
//! ends when its standard input does.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command as Program, ExitCode, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use lockdown_host::{
    accounts::AccountName,
    home_watch::HomeWatch,
    mounts::Mounts,
    paths::Root,
    quarantine::{Intake, Settler},
    writers::Writers,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::{
    Command, Finding, HomesError, Plot, SweepReport, Territory, Waiting,
    lanes::{Post, lock},
    report::{Job, Outbox, Reporter},
    worker::Worker,
};

/// The hidden argument with which the daemon runs itself: root, table of mounts and quarantine follow.
pub const ARGUMENT: &str = "--remote-homes";
/// How long a finding waits until it is looked again whether there is room for it.
const PAUSE: Duration = Duration::from_millis(20);

/// What the child tells, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// It goes into a home.
    Enters {
        whose: Option<AccountName>,
        #[serde(with = "raw_path")]
        path: PathBuf,
    },
    /// It is out again.
    Leaves,
    Found(Box<Finding>),
    Swept(SweepReport),
}

/// What the child is ordered, likewise. The end of its input means to stop.
#[derive(Debug, Serialize, Deserialize)]
enum Ordered {
    Territory(Territory),
    Sweep,
}

/// Paths need not be text.
pub(super) mod raw_path {
    use std::{
        ffi::OsString,
        os::unix::ffi::{OsStrExt, OsStringExt},
        path::{Path, PathBuf},
    };

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(deserializer)?).into())
    }
}

/// Where the child tells what it does.
#[derive(Debug, Default)]
pub(super) struct Wire(Mutex<()>);

impl Wire {
    /// Tells it; without a daemon that hears it there is nothing more to be done.
    pub(super) fn tell(&self, told: &Told) {
        let _held = lock(&self.0);
        if write_line(&mut io::stdout().lock(), told).is_err() {
            std::process::exit(1);
        }
    }
}

fn write_line(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Starts the child, and the two threads that speak with it. The one that is given back ends once the child has.
///
/// # Errors
/// The child or a thread could not be started.
pub(super) fn start(paths: [&Path; 3], outbox: Outbox, post: &Arc<Post>) -> Result<JoinHandle<()>, HomesError> {
    let mut child = Program::new("/proc/self/exe")
        .arg(ARGUMENT)
        .args(paths)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(orders), Some(told)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("a child without pipes").into());
    };
    let (own, heard) = (Arc::clone(post), Arc::clone(post));
    thread::Builder::new().name("homes-orders".to_owned()).spawn(move || pass_on(&own, orders))?;
    let hear = move || hear(child, told, &outbox, &heard);
    Ok(thread::Builder::new().name("homes-remote".to_owned()).spawn(hear)?)
}

/// Passes orders on to the child until it is to stop.
fn pass_on(post: &Post, mut to: ChildStdin) {
    loop {
        // Interrupted or not, what there is to pass on is found out.
        let _ = poll(&mut [PollFd::new(post.bell().as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        let Waiting { territory, sweeps, stop } = post.take_orders();
        if stop {
            return;
        }
        let territory = territory.map(|plot| Ordered::Territory(plot.territory()));
        let sweep = (!sweeps.is_empty()).then_some(Ordered::Sweep);
        if territory.iter().chain(&sweep).any(|order| write_line(&mut to, order).is_err()) {
            return;
        }
    }
}

/// Takes what the child tells, until it has ended.
fn hear(mut child: Child, told: ChildStdout, outbox: &Outbox, post: &Post) {
    for line in BufReader::new(told).split(b'\n').map_while(Result::ok) {
        match serde_json::from_slice(&line) {
            Ok(Told::Enters { whose, path }) => post.enter(whose.as_ref(), path.into()),
            Ok(Told::Leaves) => post.leave(),
            Ok(Told::Swept(report)) => post.swept(report),
            Ok(Told::Found(finding)) => {
                while outbox.room() == 0 {
                    // It is the daemon that it waits for now, not a home.
                    post.leave();
                    thread::sleep(PAUSE);
                }
                outbox.send(Job::Tell(*finding));
            }
            Err(error) => tracing::error!(%error, "the process that looks after remote homes tells something unknown"),
        }
    }
    post.order(Command::Stop);
    match child.wait() {
        Ok(status) if status.success() || post.is_replaced() => {}
        Ok(status) => tracing::error!("the process that looks after remote homes has ended: {status}"),
        Err(error) => tracing::error!(%error, "the process that looks after remote homes cannot be waited for"),
    }
}

/// The child's whole work, for `main` to call when the first argument is [`ARGUMENT`], with those after it.
#[must_use]
pub fn look_after(arguments: &[OsString]) -> ExitCode {
    let [root, mounts, quarantine] = arguments else { return ExitCode::from(2) };
    match begin([root, mounts, quarantine].map(Path::new)) {
        Ok(post) => {
            take_orders(&post);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("remote homes are not looked after: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin([root, mounts, quarantine]: [&Path; 3]) -> Result<Arc<Post>, HomesError> {
    let wire = Arc::new(Wire::default());
    let tell = Arc::clone(&wire);
    // What a crash left in the quarantine is the daemon's to settle.
    let on_finding = Box::new(move |finding| tell.tell(&Told::Found(Box::new(finding))));
    let reporter = Reporter::new(Settler::open(quarantine)?, Writers::nobody(), on_finding);
    let (jobs, to_settle) = mpsc::channel();
    let outbox = reporter.outbox(jobs);
    let post = Post::telling(wire)?;
    let watch = HomeWatch::open(Writers::nobody())?;
    let (root, intake, mounts) = (Root::open(root)?, Intake::open(quarantine)?, Mounts::open(mounts)?);
    let worker = Worker::new(root, watch, intake, mounts, outbox, Arc::clone(&post));
    thread::Builder::new().name("homes-report".to_owned()).spawn(move || reporter.run(Vec::new(), &to_settle))?;
    let work = move || {
        worker.run();
        std::process::exit(0);
    };
    thread::Builder::new().name("homes".to_owned()).spawn(work)?;
    Ok(post)
}

/// Takes orders until the daemon gives no more.
fn take_orders(post: &Post) {
    for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
        match serde_json::from_slice(&line) {
            Ok(Ordered::Territory(territory)) => post.order(Command::Territory(Plot::new(move || territory.clone()))),
            Ok(Ordered::Sweep) => post.order(Command::Sweep { id: 0 }),
            Err(error) => return eprintln!("an unknown order: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use control::Mode;

    use super::*;
    use crate::driver::homes::{HomeSpec, KeyFilePath};

    #[test]
    fn what_passes_between_daemon_and_child_arrives_as_it_was_whatever_bytes_a_path_has() {
        let home = PathBuf::from(OsString::from_vec(b"/home/\xff\n\"x".to_vec()));
        let account = AccountName::parse(b"frank");
        let key_files = vec![KeyFilePath::file(home.join(".ssh/authorized_keys"))];
        let homes = vec![HomeSpec { account: account.clone(), uid: 7, home: home.clone(), key_files }];
        let territory = Territory { mode: Mode::Enforce, homes, shared: vec![KeyFilePath::pattern("/etc/k*".into())] };
        let mut line = Vec::new();
        write_line(&mut line, &Ordered::Territory(territory.clone())).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "a line");
        assert!(matches!(serde_json::from_slice(&line), Ok(Ordered::Territory(came)) if came == territory));
        let finding = Finding::Failed { whose: Some(account), path: home, error: "no".to_owned(), times: 3 };
        line.clear();
        write_line(&mut line, &Told::Found(Box::new(finding.clone()))).unwrap();
        assert!(matches!(serde_json::from_slice(&line), Ok(Told::Found(came)) if *came == finding));
    }
}
