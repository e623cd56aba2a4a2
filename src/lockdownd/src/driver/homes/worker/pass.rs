//! One pass over one account's key files: walk the ways if need be, look, judge, remove.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use fanotify::FileId;
use jiff::Timestamp;
use lockdown_core::{
    keys::file::{Survey, survey},
    policy::key_file::{Verdict, WhyRemoved},
};
use lockdown_host::{
    home_watch::{Adding, Need, Role, Unit},
    paths::{Facts, Root, Sight, open_without_links},
    quarantine::{Arrival, NotTaken, Prey, QUARANTINE, Taken},
    writers::Whereabouts,
};
use nix::{errno::Errno, fcntl::OFlag};

use super::{Trouble, Worker};
use crate::driver::homes::{
    lanes::Reach,
    look::{Candidate, examine, expand, find_link, standing_of, survey_of},
    report::{Job, Noted},
};

/// A file that is not kept is surveyed for its keys up to this length (64 KiB): the thread must not be held.
const MAX_UNKEPT_SURVEY: usize = 64 << 10;

/// How many files that stand in observe are remembered as told.
const MAX_TOLD: usize = 65_536;

/// How often a missing home may appear while it is being watched for, before the watch alone is relied on.
const MAX_APPEARANCES: u32 = 4;

impl Worker {
    /// Looks at every key file of `unit`, and removes what has to go.
    pub(super) fn pass(&mut self, unit: Unit, need: Need) {
        if need == Need::Ways {
            self.walk_ways(unit);
        }
        for index in 0..self.wards[unit as usize].candidates.len() {
            let candidate = &self.wards[unit as usize].candidates[index];
            match candidate.real_file() {
                Some(file) => {
                    let (sight, verdict) = examine(&self.root, &file, &mut self.content);
                    if matches!(verdict, Verdict::Remove(_)) || !self.told.is_empty() {
                        self.conclude(unit, index, &file, sight, verdict);
                    }
                    self.count(sight);
                    self.note_device(unit, index, sight);
                }
                None => self.look_at_matches(unit, index),
            }
        }
    }

    /// A file that only a sweep shows, or on another device than before, stands on a mount that no event told of: then
    /// the directories that are watched are not those that are looked at.
    fn note_device(&mut self, unit: Unit, index: usize, sight: Sight) {
        let (Sight::File(facts) | Sight::Long(facts)) = sight else { return };
        let before = self.wards[unit as usize].candidates[index].device.replace(facts.device);
        let is_news =
            before.is_some_and(|device| device != facts.device) || before.is_none() && self.sweeping.is_some();
        if is_news {
            self.need_ways(unit);
        }
    }

    fn look_at_matches(&mut self, unit: Unit, index: usize) {
        let candidate = &self.wards[unit as usize].candidates[index];
        let pattern = candidate.base.join(&candidate.below);
        let (files, cut) = candidate.files(&self.root);
        for file in files {
            let (sight, verdict) = examine(&self.root, &file, &mut self.content);
            self.conclude(unit, index, &file, sight, verdict);
            self.count(sight);
        }
        if cut {
            self.fail(unit, pattern, "more files match than one look takes in".to_owned());
        }
    }

    /// Counts for a sweep that runs.
    fn count(&mut self, sight: Sight) {
        if let Some(sweep) = &mut self.sweeping {
            let report = &mut sweep.report;
            report.files += u64::from(!matches!(sight, Sight::Absent | Sight::Inert));
            report.inert += u64::from(sight == Sight::Inert);
            report.unreadable += u64::from(matches!(sight, Sight::Unreadable(_) | Sight::Long(_)));
        }
    }

    /// Does what the verdict says.
    fn conclude(&mut self, unit: Unit, index: usize, file: &Path, sight: Sight, verdict: Verdict) {
        if self.post.is_replaced() {
            return;
        }
        match verdict {
            Verdict::Keep(_) => {
                self.told.remove(file);
                self.unkept.is_settled(file);
            }
            Verdict::Remove(why) if self.enforces() => self.remove(unit, index, file, sight, why),
            Verdict::Remove(why) => self.tell_standing(unit, file, sight, why),
        }
    }

    fn tell_standing(&mut self, unit: Unit, file: &Path, sight: Sight, why: WhyRemoved) {
        let state = match sight {
            Sight::File(facts) | Sight::Long(facts) => (facts.inode, facts.changed),
            _ => (0, 0),
        };
        let survey = survey_of(sight, &self.content);
        if let Some(sweep) = &mut self.sweeping {
            sweep.report.standing += 1;
            sweep.report.keys += survey.entries;
        }
        if self.told.get(file) == Some(&state) {
            return;
        }
        let ward = &mut self.wards[unit as usize];
        let standing = standing_of(ward.whose.as_ref(), file, why, sight, &survey);
        let backlog = ward.backlog();
        match backlog.note_standing(standing) {
            Noted::First => self.outbox.send(Job::Standing(Arc::clone(backlog))),
            Noted::Waits => {}
            Noted::Full => return,
        }
        if self.told.len() >= MAX_TOLD {
            // Names that come and go would fill it for ever: what still stands is told once more.
            self.told.clear();
        }
        self.told.insert(file.to_owned(), state);
    }

    fn remove(&mut self, unit: Unit, index: usize, file: &Path, sight: Sight, why: WhyRemoved) {
        if !self.may_remove_from_mount(unit, file) {
            return;
        }
        match self.try_remove(unit, index, file, sight, why) {
            Ok(true) => {
                self.unkept.is_settled(file);
                if let Some(sweep) = &mut self.sweeping {
                    sweep.report.removed += 1;
                    sweep.report.keys += survey_of(sight, &self.content).entries;
                }
            }
            Ok(false) => {}
            Err(NotTaken::Unkept(error)) => {
                let why = format!("{} in {QUARANTINE}", error.desc());
                self.unkept.note(unit, file, &why);
                self.fail(unit, file.to_owned(), format!("it stands, since its bytes could not be kept: {why}"));
            }
            Err(NotTaken::Stands(Errno::EPERM)) => {
                self.fail(unit, file.to_owned(), "not permitted even to root: is it immutable? (lsattr(1))".to_owned());
            }
            Err(NotTaken::Stands(error)) => self.fail(unit, file.to_owned(), error.desc().to_owned()),
        }
    }

    /// Removes what stands at `file`; `false` if its owner was quicker.
    fn try_remove(
        &mut self,
        unit: Unit,
        index: usize,
        file: &Path,
        sight: Sight,
        why: WhyRemoved,
    ) -> Result<bool, NotTaken> {
        let Some((directory, path)) = self.hold(unit, index, file, sight)? else {
            self.need_ways(unit);
            return Ok(false);
        };
        let (Some(name), ward) = (path.file_name(), &mut self.wards[unit as usize]) else { return Ok(false) };
        let backlog = Arc::clone(ward.backlog());
        let (prey, facts): (Prey<'_>, Option<Facts>) = match sight {
            Sight::File(facts) => (Prey::Read(&self.content), Some(facts)),
            Sight::Long(facts) => (Prey::Unread, Some(facts)),
            Sight::Link => (Prey::Link, None),
            _ => (Prey::Unread, None),
        };
        let label = ward.whose.as_ref().map_or("", |whose| whose.as_str());
        // Without randomness for an id nothing can be kept, but the key goes.
        let arrival = Arrival::new(label, &path, facts, why, Timestamp::now()).ok().filter(|_| backlog.has_room());
        let Some(mut arrival) = arrival else {
            if self.intake.discard(directory.as_fd(), name)? == Taken::Harmless {
                return Ok(false);
            }
            let found = if self.content.len() <= MAX_UNKEPT_SURVEY && matches!(sight, Sight::File(_)) {
                survey(&self.content)
            } else {
                Survey::default()
            };
            if backlog.note_unkept(path, found) {
                self.outbox.send(Job::Unkept(backlog));
            }
            return Ok(true);
        };
        // On another mount than the quarantine the file itself does not outlive the removal.
        let before = FileId::entry(directory.as_fd(), name).ok();
        let taken = self.intake.take(directory.as_fd(), name, &arrival.name, prey)?;
        if taken == Taken::Harmless {
            return Ok(false);
        }
        arrival.is_copy = taken == Taken::Copied;
        let file = if arrival.is_copy { before } else { self.intake.identity(&arrival.name) };
        arrival.stood_at = Whereabouts::of(file, directory.as_fd());
        backlog.enter();
        self.outbox.send(Job::Settle(Box::new(arrival), backlog));
        Ok(true)
    }

    /// Opens the directory in which the thing to remove stands: the file, or the link on the way to it.
    /// `None` if it was swapped since the look.
    fn hold(&self, unit: Unit, index: usize, file: &Path, sight: Sight) -> Result<Option<(OwnedFd, PathBuf)>, Errno> {
        if sight == Sight::Link {
            let candidate = &self.wards[unit as usize].candidates[index];
            let Some(base) = &candidate.real_base else { return Ok(None) };
            return or_swapped(find_link(&self.root, base, file)).map(Option::flatten);
        }
        let Some(parent) = file.parent() else { return Ok(None) };
        Ok(or_swapped(self.root.open_directory(parent))?.map(|directory| (directory, file.to_owned())))
    }

    pub(super) fn fail(&mut self, unit: Unit, path: PathBuf, error: String) {
        if let Some(sweep) = &mut self.sweeping {
            sweep.report.failed += 1;
        }
        self.trouble(Trouble::Path(unit, path), error);
    }

    /// Walks from each base towards its files and watches every directory on the way before looking into it.
    fn walk_ways(&mut self, unit: Unit) {
        let mut failures = Vec::new();
        let Self { root, watch, wards, mounts, sweeping, post, .. } = self;
        let candidates = &mut wards[unit as usize].candidates;
        let may_hang = post.reach == Reach::Remote;
        let (mut asleep, mut beyond) = (false, false);
        watch.rewatch(unit, |adding| {
            let mut known: Option<(Arc<Path>, PathBuf)> = None;
            for candidate in candidates {
                let base = Arc::clone(&candidate.base);
                candidate.leave();
                let real = match known.take() {
                    Some((same, real)) if same == base => Ok(real),
                    _ => mounts.resolve(root, &base, may_hang),
                };
                if real.as_ref().is_ok_and(|real| mounts.would_mount(real)) {
                    asleep = true;
                    continue;
                }
                let is_remote = |real| mounts.is_remote(real, (!candidate.is_pattern).then_some(&*candidate.below));
                if real.as_deref().is_ok_and(|real| is_remote(real) != may_hang) {
                    beyond = true;
                    known = real.ok().map(|real| (base, real));
                    continue;
                }
                let real = real.inspect(|real| known = Some((base.clone(), real.clone())));
                if let Err(error) = candidate.lead_to(real) {
                    failures.push((base.to_path_buf(), error.to_string()));
                    continue;
                }
                if let Err(error) = watch_way(root, adding, candidate) {
                    failures.push((base.to_path_buf(), format!("it cannot be watched: {error}")));
                }
            }
        });
        if let Some(sweep) = sweeping {
            sweep.report.not_mounted += u64::from(asleep);
        }
        let whose = &self.wards[unit as usize].whose;
        if beyond != self.beyond.contains(whose) {
            self.has_moved = true;
            let _ = if beyond { self.beyond.insert(whose.clone()) } else { self.beyond.remove(whose) };
        }
        for (path, error) in failures {
            self.fail(unit, path, error);
        }
    }
}

fn or_swapped<T>(answer: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Watches the base and every directory below it that leads to the candidate's files; where the base is missing, the
/// nearest directory above it that exists.
fn watch_way(root: &Root, adding: &mut Adding<'_>, candidate: &Candidate) -> std::io::Result<()> {
    let Some(base) = &candidate.real_base else { return Ok(()) };
    let Some(mut directory) = watch_base(root, adding, base)? else { return Ok(()) };
    if candidate.is_pattern {
        return watch_matches(root, adding, candidate, base);
    }
    let mut parts = candidate.below.components().map(Component::as_os_str).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return adding.add(directory.as_fd(), Some(part), Role::KeyFile);
        }
        adding.add(directory.as_fd(), Some(part), Role::Way)?;
        match open_next(&directory, Path::new(part)) {
            Ok(next) => directory = next,
            // Nothing there yet, or a link or file, which the look deals with.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Opens the base; `None` if it is missing, and then the nearest directory above it is watched for its coming.
fn watch_base(root: &Root, adding: &mut Adding<'_>, base: &Path) -> std::io::Result<Option<OwnedFd>> {
    let mut awaited: Option<&OsStr> = None;
    let mut tries = 0;
    let mut here = base;
    loop {
        match root.open_directory(here) {
            Ok(directory) if here == base => return Ok(Some(directory)),
            Ok(directory) => {
                adding.add(directory.as_fd(), awaited, Role::Way)?;
                tries += 1;
                // It may have come between the look and the watch; if it comes and goes, the watch tells.
                let came = awaited.is_some_and(|name| root.open_directory(&here.join(name)).is_ok());
                if !came || tries == MAX_APPEARANCES {
                    return Ok(None);
                }
                here = base;
            }
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                awaited = here.file_name();
                here = here.parent().ok_or(Errno::ENOENT)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn open_next(directory: &OwnedFd, name: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open_without_links(directory.as_fd(), name, flags)
}

/// Watches, for every name, each directory in which a part of the pattern can match: whatever changes there, the ways
/// are walked anew.
fn watch_matches(root: &Root, adding: &mut Adding<'_>, candidate: &Candidate, base: &Path) -> std::io::Result<()> {
    let depth = candidate.below.components().count();
    for kept in 0..depth {
        let prefix: PathBuf = candidate.below.components().take(kept).collect();
        for directory in expand(root, base, &prefix).0 {
            match root.open_directory(&directory) {
                Ok(fd) => adding.add(fd.as_fd(), None, if kept + 1 == depth { Role::KeyFile } else { Role::Way })?,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
