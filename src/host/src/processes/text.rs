//! What the texts in a process's directory say. Any process may have written its own command line, and its name.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::CgroupPath;

/// As much as the kernel gives of a file in `/proc` in one go. Each time it is asked it goes through a table anew, and that of
/// all connections takes half a millisecond where there is much memory, however few there are.
const AT_ONCE: usize = 4_096;

pub(super) fn read_to(file: File, limit: usize) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(AT_ONCE.min(limit));
    file.take(limit as u64).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The real, effective and saved user id.
pub(super) fn uids(status: &[u8]) -> Option<[u32; 3]> {
    let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let mut ids = std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(str::parse);
    Some([ids.next()?.ok()?, ids.next()?.ok()?, ids.next()?.ok()?])
}

pub(super) fn cgroup_of(text: &[u8]) -> Option<CgroupPath> {
    let text = std::str::from_utf8(text).ok()?;
    let path_in = |wanted: &dyn Fn(&str, &str) -> bool| {
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            wanted(id, controllers).then(|| path.to_owned())
        })
    };
    // Both may be listed. systemd works in the unified one, in hybrid set-ups too; where it does not, all are at its root.
    let unified = path_in(&|id, controllers| id == "0" && controllers.is_empty()).filter(|path| path != "/");
    let legacy = || path_in(&|_, controllers| controllers == "name=systemd");
    match unified {
        Some(path) => Some(CgroupPath { unified: true, path }),
        None => legacy().map(|path| CgroupPath { unified: false, path }),
    }
}

pub(super) fn split_cmdline(text: &[u8]) -> Vec<OsString> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|b| *b == 0).map(|arg| OsStr::from_bytes(arg).to_owned()).collect()
}

pub(super) fn without_deleted(link: OsString) -> PathBuf {
    match link.as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => Path::new(OsStr::from_bytes(path)).to_owned(),
        None => PathBuf::from(link),
    }
}
