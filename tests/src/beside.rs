//! Programs of the host run beside an instance: what they see as `/etc/lockdownd`, `lockdownctl` and `systemctl` is the
//! instance's. For configuration management, which an instance has no room for.

use std::fs;

use crate::host::{Output, finish};
use crate::instance::Instance;

/// In a mount namespace of its own, where changes to /etc and to the programs stay: what `$1` (the instance's root), `$2` (its
/// leader), `$3` (a scratch directory) and `$4` (a script) say.
const BESIDE: &str = r#"
set -eu
root=$1 leader=$2 scratch=$3
mount --make-rprivate /
for dir in etc usr/bin usr/sbin; do
    mkdir -p "$scratch/$dir/upper" "$scratch/$dir/work"
    mount -t overlay -o "lowerdir=/$dir,upperdir=$scratch/$dir/upper,workdir=$scratch/$dir/work" overlay "/$dir"
done
mkdir -p /etc/lockdownd
mount --bind "$root/etc/lockdownd" /etc/lockdownd
cp "$root/usr/bin/lockdownctl" /usr/bin/lockdownctl
cp "$root/usr/sbin/lockdownd" /usr/sbin/lockdownd
rm -f /usr/bin/systemctl
printf '#!/bin/sh\nexec nsenter -t %s -m -u -i -n -p -- systemctl "$@"\n' "$leader" >/usr/bin/systemctl
chmod 755 /usr/bin/systemctl
cd "$scratch"
. "$4"
"#;

impl Instance {
    /// Runs a shell script on the host as root, whatever its status, with the instance's configuration and programs in the
    /// places of the host's own, and the scratch directory as the current one. The script may change /etc, /usr/bin and
    /// /usr/sbin: the host's own stay.
    #[must_use]
    pub fn run_beside(&self, script: &str) -> Output {
        let scratch = self.scratch().join("beside");
        fs::create_dir_all(&scratch).expect("own directory");
        let file = scratch.join("script");
        fs::write(&file, script).expect("own directory");
        let mut command = self.client();
        command.args(["unshare", "--mount", "--", "sh", "-c", BESIDE, "sh"]);
        command.arg(self.outside("/")).arg(self.leader().to_string()).arg(&scratch).arg(&file);
        command.env("LC_ALL", "C.UTF-8");
        finish(command, script, b"")
    }
}
