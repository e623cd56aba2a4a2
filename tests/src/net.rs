//! A network of a test's own: a bridge in a namespace in which programs of the host run, and to which instances are plugged.
//! Nothing leads out of it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::host::{Output, eventually, host_command};
use crate::instance::Instance;

/// Where programs of the host are reached.
pub(crate) const HERE: &str = "10.77.0.1";
/// What one command of ip(8) may take.
const IP_LIMIT: Duration = Duration::from_secs(20);

/// The network. It is gone with the process that keeps its namespace, which ends with the instance beside which it runs, also where
/// the test is killed.
#[derive(Debug)]
pub(crate) struct Net {
    keeper: Child,
}

impl Net {
    /// Lays one.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub(crate) fn lay(beside: &Instance) -> Self {
        let mut command = beside.client();
        command.args(["unshare", "--net", "--", "sleep", "infinity"]).stdin(Stdio::null()).stdout(Stdio::null());
        let keeper = command.spawn().unwrap_or_else(|e| panic!("cannot start unshare: {e}"));
        let net = Self { keeper };
        let own = std::fs::read_link("/proc/self/ns/net").expect("procfs");
        eventually("the network is there", IP_LIMIT, || {
            std::fs::read_link(net.namespace()).is_ok_and(|its| its != own)
        });
        let address = format!("{HERE}/24");
        for args in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "bridge", "type", "bridge"],
            &["address", "add", &address, "dev", "bridge"],
            &["link", "set", "bridge", "up"],
        ] {
            net.ip(args).expect_ok();
        }
        net
    }

    /// Plugs an instance in, as this number; again after each of its boots.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub(crate) fn plug(&self, instance: &Instance, number: usize) {
        let port = port(number);
        // What the boot before left, where the kernel has not taken it away yet.
        let _ = self.ip(&["link", "delete", &port]);
        let (here, there) = (self.keeper.id().to_string(), instance.leader().to_string());
        let link = ["link", "add", &port, "netns", &here, "type", "veth", "peer", "name", "stack0", "netns", &there];
        host_command(IP_LIMIT, "ip", &link).expect_ok();
        self.ip(&["link", "set", &port, "master", "bridge", "up"]).expect_ok();
        instance.sh(&format!("ip address add 10.77.0.{}/24 dev stack0 && ip link set stack0 up", 10 + number));
    }

    /// Pulls an instance's plug, or puts it back.
    pub(crate) fn connect(&self, number: usize, connected: bool) {
        self.ip(&["link", "set", &port(number), if connected { "up" } else { "down" }]).expect_ok();
    }

    /// To be completed by a program of the host that runs in it, beside an instance.
    pub(crate) fn command(&self, beside: &Instance) -> Command {
        let mut command = beside.client();
        command.arg("nsenter").arg(format!("--net={}", self.namespace().display())).arg("--");
        command
    }

    fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.keeper.id()).into()
    }

    fn ip(&self, args: &[&str]) -> Output {
        let enter = format!("--net={}", self.namespace().display());
        host_command(IP_LIMIT, "nsenter", &[&[enter.as_str(), "--", "ip"], args].concat())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn port(number: usize) -> String {
    format!("port{number}")
}
