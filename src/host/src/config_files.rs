//! Reads the configuration: `/etc/lockdownd/config.toml` and `conf.d/*.toml`, merged in name order.
//!
//! What the files say is judged by [`lockdown_core::config`]. This never changes anything, and never puts a configuration
//! in force: that is for its caller.

mod check;
mod files;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use lockdown_core::config::{Config, Error, Place, Unjudged};

pub use check::{Checked, Proposed, check, check_as};
pub use files::{MAX_FILE, MAX_FILES, MAX_LAST_GOOD, MAX_TOTAL};

use files::Owner;

/// Where the configuration in force stands.
pub const CONFIG_DIR: &str = "/etc/lockdownd";

/// The user whose configuration files are believed.
const ROOT: u32 = 0;

/// How far two readings of the configuration are apart: a file is rewritten in less.
pub const APART: Duration = Duration::from_millis(50);
/// How many readings in a row may differ.
pub const READINGS: u32 = 20;

/// Loads what stands in a configuration directory (`/etc/lockdownd`): `config.toml`, which must be there, then
/// `conf.d/*.toml` in name order. Settings of a later file replace earlier ones, lists included; `[[person]]` and
/// `[[grant]]` add up. Names that begin with a dot or end otherwise are left alone.
///
/// Files and both directories must belong to root and be writable by root alone; files are regular, not links, at most
/// [`MAX_FILE`] bytes each, [`MAX_TOTAL`] together and [`MAX_FILES`] in number.
///
/// A file that is being written is seen empty or cut, and that may well be a configuration too. So everything is read
/// twice, a moment apart, until both readings agree: this takes [`APART`], and up to [`READINGS`] times that.
///
/// # Errors
/// Everything that is wrong, up to [`MAX_PROBLEMS`](lockdown_core::config::MAX_PROBLEMS); or that somebody goes on writing.
pub fn load(dir: &Path) -> Result<Config, Error> {
    load_steady(dir, Owner::Only(ROOT))
}

fn load_steady(dir: &Path, owner: Owner) -> Result<Config, Error> {
    let read = || (files::states(dir, owner), load_of(dir, owner));
    let mut before = read();
    for _ in 0..READINGS {
        std::thread::sleep(APART);
        let now = read();
        let agree = match (&before.1, &now.1) {
            (Ok(before), Ok(now)) => before == now,
            (Err(before), Err(now)) => before.to_string() == now.to_string(),
            _ => false,
        };
        if agree && before.0 == now.0 {
            return now.1;
        }
        before = now;
    }
    let mut unjudged = Unjudged::default();
    let place = Place::whole(&dir.to_string_lossy());
    unjudged.add_unread(&place, "files in it are being written", "reload again when they are whole");
    unjudged.judge()
}

fn load_of(dir: &Path, owner: Owner) -> Result<Config, Error> {
    load_with(dir, owner, &[], Unjudged::default())
}

/// As [`load_of`], with the proposed files in the place of those that stand at their destinations, if any do.
fn load_with(dir: &Path, owner: Owner, proposed: &[Proposed], mut unjudged: Unjudged) -> Result<Config, Error> {
    let mut left = MAX_TOTAL;
    let also: Vec<&Path> = proposed.iter().map(|proposed| proposed.destination.as_path()).collect();
    for path in files::list(dir, owner, &also, &mut unjudged) {
        // What is only proposed may be anybody's.
        let (content, owner) = match proposed.iter().find(|proposed| proposed.destination == path) {
            Some(proposed) => (&proposed.file, Owner::Any),
            None => (&path, owner),
        };
        let Some(text) = files::read(content, owner, MAX_FILE, &mut unjudged) else { continue };
        let name = path.to_string_lossy();
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if length > left {
            let what = format!("with this file the configuration has more than {MAX_TOTAL} bytes");
            unjudged.add_unread(&Place::whole(&name), what, "make it smaller: it and all after it are not read");
            break;
        }
        left -= length;
        unjudged.add(&name, &text);
    }
    unjudged.judge()
}

/// Loads one file that holds a whole configuration, as [`Config::to_toml`] wrote it: the last good one. It must belong to
/// root as those of [`load`], and have at most [`MAX_LAST_GOOD`] bytes.
///
/// # Errors
/// As [`load`].
pub fn load_file(path: &Path) -> Result<Config, Error> {
    load_file_of(path, Owner::Only(ROOT))
}

fn load_file_of(path: &Path, owner: Owner) -> Result<Config, Error> {
    let mut unjudged = Unjudged::default();
    if let Some(text) = files::read(path, owner, MAX_LAST_GOOD, &mut unjudged) {
        unjudged.add(&path.to_string_lossy(), &text);
    }
    unjudged.judge()
}
