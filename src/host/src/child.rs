//! Runs a program for what it prints, bounded in time and bytes, and never with our environment.

use std::{
    ffi::OsStr,
    io::{self, Read, Seek, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, Signal, kill_process_group},
};

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// The bounds on one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long it may take.
    pub(super) time: Duration,
    /// The most bytes of each of its outputs.
    pub(super) output: usize,
}

/// A program with a plain environment.
pub(super) fn command(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command of [`command`] to its end; `None` when that takes too long or gets too much: it was killed.
///
/// # Errors
/// When it cannot be started, read or waited for.
pub(super) fn run(command: Command, bounds: Bounds) -> io::Result<Option<Output>> {
    // It may have ended by itself meanwhile; it is reaped either way.
    run_and(command, bounds, |child| drop(child.kill()))
}

/// As [`run`], of a command that begins a process group of its own: with it, whatever it has started is killed.
///
/// # Errors
/// As above.
pub(super) fn run_group(command: Command, bounds: Bounds) -> io::Result<Option<Output>> {
    run_and(command, bounds, |child| {
        // Not reaped yet, so that nobody else can have its pid, nor its group.
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    })
}

/// What a program reads from its standard input, without anybody having to write it while the program runs.
///
/// # Errors
/// There is no memory for it.
pub(super) fn input(content: &[u8]) -> io::Result<Stdio> {
    let mut file = std::fs::File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

fn run_and(mut command: Command, bounds: Bounds, kill: impl Fn(&mut Child)) -> io::Result<Option<Output>> {
    let mut child = command.spawn()?;
    let collected = collect(&mut child, bounds);
    if !matches!(collected, Ok(Some(_))) {
        kill(&mut child);
    }
    let status = child.wait()?;
    Ok(collected?.map(|(stdout, stderr)| Output { status, stdout, stderr }))
}

/// Reads both outputs to their ends; `None` when that takes too long or gets too much.
fn collect(child: &mut Child, bounds: Bounds) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut streams: Vec<(Option<std::fs::File>, Vec<u8>)> =
        [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)]
            .into_iter()
            .map(|fd| (fd.map(std::fs::File::from), Vec::new()))
            .collect();
    let deadline = Instant::now() + bounds.time;
    while streams.iter().any(|(file, _)| file.is_some()) {
        let left = deadline.saturating_duration_since(Instant::now());
        let open: Vec<usize> = (0..streams.len()).filter(|index| streams[*index].0.is_some()).collect();
        let mut fds: Vec<PollFd> = streams
            .iter()
            .filter_map(|(file, _)| file.as_ref())
            .map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Ok(None),
            // A reload that came meanwhile says nothing about the program.
            Err(Errno::EINTR) => continue,
            ready => ready?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for index in open.into_iter().zip(ready).filter_map(|(index, ready)| ready.then_some(index)) {
            let (file, text) = &mut streams[index];
            let mut chunk = [0_u8; 16 * 1024];
            match file.as_mut().map_or(Ok(0), |file| file.read(&mut chunk))? {
                0 => *file = None,
                count if text.len() + count > bounds.output => return Ok(None),
                count => text.extend_from_slice(&chunk[..count]),
            }
        }
    }
    let mut texts = streams.into_iter().map(|(_, text)| text);
    Ok(texts.next().zip(texts.next()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    fn sh(script: &str, bounds: Bounds) -> Option<Output> {
        run(command(Path::new("/bin/sh"), ["-c", script]), bounds).expect("it runs")
    }

    #[test]
    fn a_program_is_read_to_its_end_and_neither_time_nor_output_is_without_a_bound() {
        let bounds = Bounds { time: Duration::from_secs(30), output: 1_000 };
        let output = sh("echo said; echo complained >&2; exit 3", bounds).expect("it ended");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"said\n"[..], &b"complained\n"[..]));
        assert_eq!(output.status.code(), Some(3));
        assert!(sh("while :; do echo more; done", bounds).is_none());
        let short = Bounds { time: Duration::from_millis(100), ..bounds };
        let began = Instant::now();
        assert!(sh("exec sleep 20", short).is_none() && began.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn whatever_a_program_has_started_is_killed_with_its_group_and_it_reads_what_it_is_given() {
        let start = |script: &str, time| {
            let mut command = command(Path::new("/bin/sh"), ["-c", script]);
            command.stdin(input(b"given\n").expect("memory")).process_group(0);
            run_group(command, Bounds { time, output: 1_000 }).expect("it runs")
        };
        let long = Duration::from_secs(30);
        assert_eq!(start("read line; echo $line", long).expect("it ended").stdout, b"given\n");
        let began = Instant::now();
        // What it has started holds the pipe that is read, also once it has ended itself.
        let pid_file = tempfile::NamedTempFile::new().expect("a file");
        let script = format!("sleep 300 & echo $! >{}; kill -STOP $$", pid_file.path().display());
        assert!(start(&script, Duration::from_millis(500)).is_none() && began.elapsed() < Duration::from_secs(15));
        let pid: i32 = std::fs::read_to_string(pid_file.path()).expect("written").trim().parse().expect("a pid");
        let is_gone =
            || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        while !is_gone() {
            assert!(began.elapsed() < Duration::from_secs(15), "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
