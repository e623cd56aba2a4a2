//! Runs a program for what it prints, bounded in time and bytes, and never with our environment.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
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
pub(super) fn run(mut command: Command, bounds: Bounds) -> io::Result<Option<Output>> {
    let mut child = command.spawn()?;
    let collected = collect(&mut child, bounds);
    if !matches!(collected, Ok(Some(_))) {
        // It may have ended by itself meanwhile; it is reaped either way.
        let _ = child.kill();
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
}
