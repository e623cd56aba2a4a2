//! What is mounted where (proc_pid_mountinfo(5)): which homes would be mounted only by looking at them, and which stand on
//! a file system that other hosts share.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use super::paths::{PathError, Root, read_path};

/// What the daemon's own view of the host is read from.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";
/// The same as the first process sees it, and so whoever mounts.
pub const HOST_MOUNTINFO: &str = "/proc/1/mountinfo";
/// Which file systems are to be mounted where: fstab(5).
pub const FSTAB: &str = "/etc/fstab";
/// The most bytes read of it: some 100,000 mounts.
const MAX_TABLE: u64 = 16 << 20;
/// File systems whose files are other hosts' too.
const SHARED: [&str; 19] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "virtiofs",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    id: u32,
    parent: u32,
    /// Where.
    pub point: PathBuf,
    /// Of which type.
    pub kind: String,
    /// Whether nothing can be written through it, whatever its file system allows.
    is_read_only: bool,
}

impl Mount {
    /// Whether other hosts may have the same files.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        SHARED.binary_search(&self.kind.as_str()).is_ok()
    }

    /// Whether another host or a program answers for its files, and may not answer.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.is_shared() || self.kind.starts_with("fuse") || self.kind == "autofs"
    }
}

/// All mounts, as last read.
#[derive(Debug)]
pub struct Mounts {
    file: File,
    table: BTreeSet<Mount>,
    /// Where autofs is: few, and asked about for every path.
    autofs: BTreeSet<PathBuf>,
    /// Where a file system is that another host or a program answers for, but for the root.
    remote: BTreeSet<PathBuf>,
}

impl Mounts {
    /// Reads the table at `path`: [`MOUNTINFO`].
    ///
    /// # Errors
    /// What open(2) and read(2) say.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut mounts =
            Self { file: File::open(path)?, table: BTreeSet::new(), autofs: BTreeSet::new(), remote: BTreeSet::new() };
        mounts.renew()?;
        Ok(mounts)
    }

    /// Reads the table again. Answers with the mount points where something came or went.
    ///
    /// # Errors
    /// What read(2) says: then all is as it was.
    pub fn renew(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut text = Vec::new();
        self.file.rewind()?;
        (&self.file).take(MAX_TABLE).read_to_end(&mut text)?;
        let table = parse(&text);
        let changed = table.symmetric_difference(&self.table).map(|mount| mount.point.clone()).collect();
        let points =
            |is_meant: fn(&&Mount) -> bool| table.iter().filter(is_meant).map(|mount| mount.point.clone()).collect();
        self.autofs = points(|mount| mount.kind == "autofs");
        // Without the root's file system nothing works, wherever it is.
        self.remote = points(|mount| mount.is_remote() && mount.point != Path::new("/"));
        self.table = table;
        Ok(changed)
    }

    /// The mount that a path without links is on; `None` where the table does not tell.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<&Mount> {
        let is_known = |id: u32| self.table.iter().any(|mount| mount.id == id);
        let mut here = self.table.iter().find(|mount| !is_known(mount.parent))?;
        // Each step is onto another mount, so that a table which leads in a circle is left.
        for _ in 0..self.table.len() {
            let on_it = self.table.iter().filter(|mount| mount.parent == here.id && path.starts_with(&mount.point));
            match on_it.min_by_key(|mount| mount.point.as_os_str().len()) {
                Some(next) => here = next,
                None => break,
            }
        }
        Some(here)
    }

    /// Whether looking at this path would have something mounted there first: it is autofs's, and nothing is mounted yet.
    #[must_use]
    pub fn would_mount(&self, path: &Path) -> bool {
        self.autofs.iter().any(|point| path.starts_with(point))
            && self.of(path).is_some_and(|mount| mount.kind == "autofs")
    }

    /// Whether a look at `below` the path `base`, or anywhere there, may wait for another host or a program.
    #[must_use]
    pub fn is_remote(&self, base: &Path, below: Option<&Path>) -> bool {
        let is_on_way = |point: &PathBuf| match below {
            _ if base.starts_with(point) => true,
            Some(below) => point.starts_with(base) && base.join(below).starts_with(point),
            None => point.starts_with(base),
        };
        self.remote.iter().any(is_on_way)
    }

    /// [`Root::resolve`], but what looking would mount is not looked at: the answer is then a path of which
    /// [`Mounts::would_mount`] is true. Without `may_hang` the same goes for what [`Mounts::is_remote`] is true of.
    ///
    /// # Errors
    /// As [`Root::resolve`].
    pub fn resolve(&self, root: &Root, path: &Path, may_hang: bool) -> Result<PathBuf, PathError> {
        let is_remote = |here: &Path| self.remote.iter().any(|point| here.starts_with(point));
        root.resolve_until(path, |here| self.would_mount(here) || !may_hang && is_remote(here))
    }
}

impl AsFd for Mounts {
    /// poll(2) says `POLLPRI` on it when a mount came or went since the last poll.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether the mount that `path` is on is read-only here and not there, in another mount namespace: what mount(8) changes of a
/// mount is not passed on to others. Both are tables as [`MOUNTINFO`].
#[must_use]
pub fn is_read_only_here_alone(path: &Path, here: &Path, there: &Path) -> bool {
    let is_read_only = |table: &Path| {
        let mounts = Mounts::open(table).ok()?;
        mounts.of(path).map(|mount| (mount.point.clone(), mount.is_read_only))
    };
    match (is_read_only(here), is_read_only(there)) {
        (Some((point, true)), Some((other, false))) => point == other,
        _ => false,
    }
}

/// The mount point at or above `path` that fstab(5) names and on which nothing is mounted. `None` also where one of the files
/// cannot be read.
#[must_use]
pub fn not_mounted(path: &Path, fstab: &Path, mountinfo: &Path) -> Option<PathBuf> {
    let text = read_path(fstab, MAX_TABLE).ok()?;
    let mounts = Mounts::open(mountinfo).ok()?;
    let is_mounted = |point: &Path| point == Path::new("/") || mounts.table.iter().any(|mount| mount.point == point);
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii_start().starts_with(b"#"));
    let point = |line: &[u8]| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        fields.nth(1).map(unescaped)
    };
    lines.filter_map(point).find(|point| path.starts_with(point) && !is_mounted(point))
}

fn parse(text: &[u8]) -> BTreeSet<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let point = unescaped(fields.nth(2)?);
    let is_read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
    // Optional fields end with a lone hyphen.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { id, parent, point, kind: record::escape(kind), is_read_only })
}

/// Blanks and the like stand as three octal digits after a backslash.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TABLE: &str = "\
        21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 21 0:26 / /proc rw - proc proc rw\n\
        40 21 0:40 / /home rw shared:7 - autofs auto.home rw,fd=6\n\
        41 40 0:41 /frank /home/frank rw shared:8 master:2 - nfs4 files:/frank rw\n\
        42 21 0:42 / /srv/my\\040files rw - fuse.sshfs ops@files:/ rw\n\
        43 21 0:43 / /data rw - nfs files:/data rw\n\
        44 43 0:44 / /data/own rw - ext4 /dev/sdb rw\n\
        45 43 0:45 / /data/new rw - tmpfs tmpfs rw\n\
        46 21 0:46 / /opt rw - autofs systemd-1 rw,direct\n\
        47 46 0:47 / /opt rw - ext4 /dev/sdc rw\n\
        a line of another kind\n";

    fn mounts(text: &str) -> (tempfile::NamedTempFile, Mounts) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("own file");
        let mounts = Mounts::open(file.path()).expect("it reads");
        (file, mounts)
    }

    #[test]
    fn each_path_is_on_the_mount_that_is_uppermost_there() {
        let (_file, mounts) = mounts(TABLE);
        for (path, point, kind) in [
            ("/", "/", "ext4"),
            ("/homeless/x", "/", "ext4"),
            ("/home", "/home", "autofs"),
            ("/home/frank/.ssh/authorized_keys", "/home/frank", "nfs4"),
            ("/home/frankly", "/home", "autofs"),
            ("/srv/my files/a", "/srv/my files", "fuse.sshfs"),
            ("/data/old", "/data", "nfs"),
            ("/data/own/b", "/data/own", "ext4"),
            ("/opt/x", "/opt", "ext4"),
        ] {
            let mount = mounts.of(Path::new(path)).expect("a mount");
            assert_eq!((mount.point.as_path(), mount.kind.as_str()), (Path::new(point), kind), "{path}");
        }
    }

    #[test]
    fn only_what_automounting_has_not_mounted_yet_would_be_mounted_by_a_look() {
        let (_file, mounts) = mounts(TABLE);
        for (path, would) in [
            ("/home/grace/.ssh/authorized_keys", true),
            ("/home/frank/.ssh/authorized_keys", false),
            ("/opt/x", false),
            ("/root", false),
        ] {
            assert_eq!(mounts.would_mount(Path::new(path)), would, "{path}");
        }
    }

    #[test]
    fn a_mount_under_another_that_came_later_counts_for_nothing() {
        let (_file, mounts) =
            mounts(&format!("{TABLE}50 41 0:50 / /home/frank rw - tmpfs tmpfs rw\n60 21 0:60 / /data rw - x x rw\n"));
        assert_eq!(mounts.of(Path::new("/home/frank/a")).expect("a mount").kind, "tmpfs");
    }

    #[test]
    fn file_systems_of_other_hosts_are_known_by_their_type() {
        assert!(SHARED.is_sorted());
        let (_file, mounts) = mounts(TABLE);
        let is_shared = |path: &str| mounts.of(Path::new(path)).is_some_and(Mount::is_shared);
        assert!(is_shared("/home/frank/a") && is_shared("/data/a") && is_shared("/srv/my files/a"));
        assert!(!is_shared("/data/own/a") && !is_shared("/root") && !is_shared("/home/grace"));
    }

    #[test]
    fn what_came_and_what_went_is_told() {
        let (file, mut mounts) = mounts(TABLE);
        assert!(mounts.renew().expect("it reads").is_empty());
        let without: String =
            TABLE.lines().filter(|line| !line.contains("/data/own")).map(|l| format!("{l}\n")).collect();
        fs::write(file.path(), format!("{without}70 21 0:70 / /mnt rw - ext4 /dev/sdd rw\n")).expect("own file");
        let changed: Vec<PathBuf> = mounts.renew().expect("it reads").into_iter().collect();
        assert_eq!(changed, [PathBuf::from("/data/own"), PathBuf::from("/mnt")]);
    }

    #[test]
    fn a_file_system_that_fstab_names_at_or_above_a_path_and_that_is_not_mounted_is_missing() {
        let (file, _) = mounts(TABLE);
        let fstab = tempfile::NamedTempFile::new().expect("a file");
        for (text, path, missing) in [
            ("", "/var/lib/lockdownd", None),
            ("/dev/sda1 / ext4 defaults 0 1\n", "/var/lib/lockdownd", None),
            ("UUID=1\t/var/lib\text4\tnofail 0 2\n", "/var/lib/lockdownd", Some("/var/lib")),
            ("# /dev/sdb /var/lib ext4\n  # x /var ext4\n/dev/sdb none swap sw\n", "/var/lib/lockdownd", None),
            ("/dev/sdb /var/lib/lock ext4\n", "/var/lib/lockdownd", None),
            ("/dev/sdc /opt ext4\n", "/opt/x", None),
            (
                "ops@files:/ /srv/my\\040files fuse.sshfs\n/dev/sde /srv/my\\040files/a ext4\n",
                "/srv/my files/a/b",
                Some("/srv/my files/a"),
            ),
        ] {
            fs::write(fstab.path(), text).expect("own file");
            let found = not_mounted(Path::new(path), fstab.path(), file.path());
            assert_eq!(found.as_deref(), missing.map(Path::new), "{text}");
        }
    }

    #[test]
    fn a_mount_that_was_made_writable_elsewhere_alone_is_known() {
        let (read_write, _) = mounts(TABLE);
        let (read_only, _) = mounts(&TABLE.replace("/data/own rw", "/data/own ro,noatime"));
        let alone = |path: &str, here: &Path, there: &Path| is_read_only_here_alone(Path::new(path), here, there);
        assert!(alone("/data/own/a", read_only.path(), read_write.path()));
        assert!(!alone("/data/own/a", read_write.path(), read_only.path()));
        assert!(!alone("/data/own/a", read_only.path(), read_only.path()));
        assert!(!alone("/data/a", read_only.path(), read_write.path()));
        assert!(!alone("/data/own/a", read_only.path(), Path::new("/nonexistent")));
    }

    #[test]
    fn this_machines_mounts_are_read_and_nothing_is_awaited() {
        let mounts = Mounts::open(Path::new(MOUNTINFO)).expect("it reads");
        assert!(mounts.of(Path::new("/proc/self/status")).is_some_and(|mount| mount.kind == "proc"));
        let nothing = Mounts::open(Path::new("/dev/null")).expect("it reads");
        assert!(nothing.of(Path::new("/")).is_none() && !nothing.would_mount(Path::new("/home/a")));
    }
}
