//! Configurations that are not in force, written where sshd can be asked what they would come to.
//!
//! A probe is sshd's own main file with our drop-in put in or taken away at the very place where `Include` reads it. It
//! must never change the order in which sshd reads anything else.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    drop_in::{self, DropInError},
    effective::{Effective, EffectiveError, Spec, effective, sshd_t},
    listener::Invocation,
    scan::{Disk, Files, Overlay, Scan, scan},
    syntax,
};

/// Where probes are written: a directory of root's alone.
const DIRECTORY: &str = "/run/lockdownd/probe";

/// A configuration to ask sshd about; gone when dropped.
#[derive(Debug)]
pub struct Probe {
    sshd: Invocation,
    /// The main file that it stands for.
    original: PathBuf,
    /// The drop-in that it puts in or takes away.
    drop_in: PathBuf,
    /// What stands for it; empty when none does.
    stand_in: PathBuf,
    written: Vec<PathBuf>,
}

impl Probe {
    /// The configuration of `sshd` without our drop-in, whether or not it is there now.
    ///
    /// # Errors
    /// When the configuration cannot be read whole or the probe not be written.
    pub fn without_drop_in(sshd: &Invocation) -> Result<Self, DropInError> {
        Self::of_file(sshd, Path::new(drop_in::PATH), None)
    }

    /// The configuration of `sshd` with a drop-in of this content, whatever is there now.
    ///
    /// # Errors
    /// As above.
    pub fn with_drop_in(sshd: &Invocation, content: &str) -> Result<Self, DropInError> {
        Self::of_file(sshd, Path::new(drop_in::PATH), Some(content))
    }

    /// The configuration of `sshd` with another file of this content put in, or without that file.
    ///
    /// # Errors
    /// As above.
    pub fn of_file(sshd: &Invocation, file: &Path, content: Option<&str>) -> Result<Self, DropInError> {
        let overlay = Overlay { base: Disk, path: file.into(), content: content.map(|text| text.into()) };
        let scan = scan(&overlay, &sshd.config_file);
        let original = sshd.config_file.clone();
        let (drop_in, stand_in) = (file.to_owned(), PathBuf::new());
        let mut probe = Self { sshd: sshd.clone(), original, drop_in, stand_in, written: Vec::new() };
        let stand_in = content.map(|content| probe.put("drop-in", content.as_bytes())).transpose()?;
        probe.stand_in = stand_in.clone().unwrap_or_default();
        let text = Disk.read(&sshd.config_file).map_err(|e| DropInError::io(&sshd.config_file, e))?;
        let text = rewrite(&text, &scan, &sshd.config_file, file, stand_in.as_deref())?;
        probe.sshd.config_file = probe.put("config", &text)?;
        Ok(probe)
    }

    /// The configuration of `sshd` without this file, as another process has written it to `config`, and takes it away.
    #[must_use]
    pub fn written_without(sshd: &Invocation, file: &Path, config: &Path) -> Self {
        let original = sshd.config_file.clone();
        let sshd = Invocation { config_file: config.to_owned(), ..sshd.clone() };
        Self { sshd, original, drop_in: file.to_owned(), stand_in: PathBuf::new(), written: Vec::new() }
    }

    /// The file that stands for the main one.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.sshd.config_file
    }

    /// What the configuration comes to, as [`effective`] tells it.
    ///
    /// # Errors
    /// When sshd cannot be asked or refuses it.
    pub fn effective(&self, spec: &Spec) -> Result<Effective, DropInError> {
        effective(&self.sshd, spec).map_err(|error| self.as_of_the_original(error))
    }

    /// Whether sshd would start with it.
    ///
    /// # Errors
    /// What sshd says against it.
    pub fn test(&self) -> Result<(), DropInError> {
        sshd_t(&self.sshd).map_err(|error| self.as_of_the_original(error))
    }

    /// A complaint of sshd's with the files' own names: lines are the same in both.
    fn as_of_the_original(&self, error: EffectiveError) -> DropInError {
        let EffectiveError::Refused { binary, mut complaint, .. } = error else { return error.into() };
        let originals = [(&self.sshd.config_file, self.original.as_path()), (&self.stand_in, self.drop_in.as_path())];
        for (written, original) in originals {
            if let Some(written) = written.to_str().filter(|written| !written.is_empty()) {
                complaint = complaint.replace(written, &original.to_string_lossy());
            }
        }
        EffectiveError::Refused { binary, config: self.original.clone(), complaint }.into()
    }

    fn put(&mut self, what: &str, content: &[u8]) -> Result<PathBuf, DropInError> {
        use std::{
            os::unix::fs::DirBuilderExt,
            sync::atomic::{AtomicU32, Ordering},
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = Path::new(DIRECTORY);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| DropInError::io(dir, e))?;
        let name = format!("{what}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = dir.join(name);
        // What a former process of our pid may have left behind.
        let _ = fs::remove_file(&path);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        // Its own name is another each time; what is wrong is with the directory.
        file.and_then(|mut file| file.write_all(content)).map_err(|e| DropInError::io(dir, e))?;
        self.written.push(path.clone());
        Ok(path)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        for path in &self.written {
            // In /run, and overwritten by its next use: nothing depends on it.
            let _ = fs::remove_file(path);
        }
    }
}

/// The main file with each `Include` that reads this drop-in spelled out, file by file, without it or with the stand-in.
fn rewrite(
    text: &[u8],
    scan: &Scan,
    main: &Path,
    ours: &Path,
    stand_in: Option<&Path>,
) -> Result<Vec<u8>, DropInError> {
    let mut lines: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    for include in &scan.includes {
        let reads_it = include
            .patterns
            .iter()
            .any(|(pattern, found)| found.iter().any(|path| path == ours) || super::scan::path_matches(pattern, ours));
        if !reads_it {
            continue;
        }
        if include.place.file != main {
            return Err(DropInError::IncludedElsewhere { place: include.place.clone() });
        }
        let files = include.patterns.iter().flat_map(|(_, found)| found).filter_map(|path| match path == ours {
            true => stand_in,
            false => Some(path.as_path()),
        });
        let quoted: Option<Vec<String>> = files.map(|path| syntax::quote(&literal(path.to_str()?))).collect();
        let quoted = quoted.ok_or_else(|| {
            DropInError::io(main, io::Error::other("Include of a file whose name sshd_config cannot quote"))
        })?;
        let line = match quoted.is_empty() {
            true => String::new(),
            false => format!("Include {}", quoted.join(" ")),
        };
        if let Some(slot) = lines.get_mut(include.place.line - 1) {
            *slot = line.into_bytes();
        }
    }
    Ok(lines.join(&b'\n'))
}

/// A path as a glob(3) pattern that stands for it alone.
fn literal(path: &str) -> String {
    path.chars().fold(String::new(), |mut text, c| {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
        text
    })
}
