//! Reads configuration files: regular ones only, never through a link, never without a bound, and, for the files in force,
//! only those that root alone can write. This never looks at what they say.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use lockdown_core::config::{Place, Unjudged};
use nix::fcntl::OFlag;

use crate::file_state::FileState;

/// The largest configuration file, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;
/// The most configuration files.
pub const MAX_FILES: usize = 1_000;
/// The largest configuration, all files together, in bytes.
pub const MAX_TOTAL: u64 = 8 * 1024 * 1024;
/// The largest last good configuration, in bytes: the canonical form can be longer than what it was made from.
pub const MAX_LAST_GOOD: u64 = 4 * MAX_TOTAL;

/// Write permission for anybody but the owner.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Who must own a file so that it is believed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// This user id, and nobody else may write.
    Only(u32),
    /// Anybody: for a file that is only checked and never put in force.
    Any,
}

/// The files of a configuration directory in the order in which they are merged: `config.toml`, then `conf.d/*.toml` by
/// name, and among them `also`, paths of such files that need not be there. Files whose name begins with a dot, or ends
/// otherwise, are somebody's work in progress and left alone.
pub(super) fn list(dir: &Path, owner: Owner, also: &[&Path], unjudged: &mut Unjudged) -> Vec<PathBuf> {
    let config = dir.join("config.toml");
    believe_directory(dir, owner, unjudged);
    let conf_d = dir.join("conf.d");
    let mut names: Vec<OsString> =
        also.iter().filter(|path| **path != config).filter_map(|p| p.file_name()).map(Into::into).collect();
    match fs::read_dir(&conf_d) {
        Ok(entries) => {
            believe_directory(&conf_d, owner, unjudged);
            for entry in entries {
                match entry {
                    Ok(entry) => names.push(entry.file_name()),
                    Err(error) => unreadable(&conf_d, &error, unjudged),
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => unreadable(&conf_d, &error, unjudged),
    }
    names.retain(|name| is_read(name));
    names.sort();
    names.dedup();
    if names.len() >= MAX_FILES {
        let what = format!("there are {} files", names.len() + 1);
        unjudged.add_unread(&whole(&conf_d), what, format!("at most {MAX_FILES} are read: merge some"));
        names.truncate(MAX_FILES - 1);
    }
    std::iter::once(config).chain(names.into_iter().map(|name| conf_d.join(name))).collect()
}

/// Which files there are, and what tells when one is written or replaced.
pub(super) fn states(dir: &Path, owner: Owner) -> Vec<(PathBuf, Option<FileState>)> {
    let paths = list(dir, owner, &[], &mut Unjudged::default());
    paths.into_iter().map(|path| (path.clone(), FileState::at(&path).ok())).collect()
}

/// Whether a file of this name in `conf.d` is part of the configuration.
pub(super) fn is_read(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    !name.starts_with(b".") && name.ends_with(b".toml")
}

fn believe_directory(dir: &Path, owner: Owner, unjudged: &mut Unjudged) {
    match fs::symlink_metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            unjudged.add_unread(&whole(dir), "it is no directory", "make it one, not a link to one");
        }
        Ok(meta) => believe(dir, &meta, owner, unjudged).unwrap_or(()),
        Err(error) => unreadable(dir, &error, unjudged),
    }
}

/// Refuses what somebody other than its owner could have written.
fn believe(path: &Path, meta: &fs::Metadata, owner: Owner, unjudged: &mut Unjudged) -> Option<()> {
    let Owner::Only(uid) = owner else { return Some(()) };
    let name = path.display();
    if meta.uid() != uid {
        let what = format!("it belongs to user {}, who could change it", meta.uid());
        unjudged.add_unread(&whole(path), what, format!("chown {uid} {name}"));
        return None;
    }
    if meta.mode() & OTHERS_MAY_WRITE != 0 {
        let what = format!("its mode {:04o} lets others write it", meta.mode() & 0o7777);
        unjudged.add_unread(&whole(path), what, format!("chmod go-w {name}"));
        return None;
    }
    Some(())
}

/// Reads one file of at most `most` bytes as UTF-8 text.
pub(super) fn read(path: &Path, owner: Owner, most: u64, unjudged: &mut Unjudged) -> Option<String> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            unjudged.add_unread(&whole(path), "it is a symbolic link", "put a regular file there");
            return None;
        }
        Err(error) => {
            unreadable(path, &error, unjudged);
            return None;
        }
    };
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(error) => {
            unreadable(path, &error, unjudged);
            return None;
        }
    };
    if !meta.is_file() {
        unjudged.add_unread(&whole(path), "it is no regular file", "put a regular file there");
        return None;
    }
    believe(path, &meta, owner, unjudged)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits, however it grows meanwhile.
    if let Err(error) = file.take(most + 1).read_to_end(&mut bytes) {
        unreadable(path, &error, unjudged);
        return None;
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        unjudged.add_unread(&whole(path), "it is too large", format!("at most {most} bytes are read"));
        return None;
    }
    if bytes.is_empty() {
        // As one is at first that is being written.
        unjudged.add_unread(&whole(path), "it is empty", "write a comment into it, or remove it");
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
            unjudged.add_unread(&whole(path), format!("it is not UTF-8 in line {line}"), "save it as UTF-8");
            None
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn unreadable(path: &Path, error: &io::Error, unjudged: &mut Unjudged) {
    unjudged.add_unread(&whole(path), format!("it cannot be read: {error}"), "");
}

fn whole(path: &Path) -> Place {
    Place::whole(&path.to_string_lossy())
}
