//! Real instances to test on: Debian 12 and 13 booted under `systemd-nspawn`, with the built .deb installed, and real
//! `ssh` clients that log in to them.
//!
//! A scenario is written once and runs on each release:
//!
//! ```no_run
//! use instance_tests::{Instance, on_each_release};
//!
//! on_each_release! {
//!     fn a_key_in_a_home_opens_nothing_in_enforce(release) {
//!         let instance = Instance::boot(release);
//!         let key = instance.keygen("frank");
//!         instance.useradd("frank");
//!         instance.authorize("frank", &key);
//!         assert!(!instance.ssh("frank").key(&key).login());
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Everything that is kept between runs lies in one directory outside the work tree ([`cache_dir`]). Nothing here fakes
//! sshd, PAM, logind or journald, and nothing may reach past the instance: it has a network of its own with nothing but
//! `lo` in it, or with the other instances of its [`Stack`] and their server.

mod beside;
pub mod chef;
mod client;
mod company;
mod control_groups;
mod device;
mod host;
mod house;
mod iam;
mod instance;
mod layers;
mod mount;
mod net;
mod server;
mod stack;

pub use client::{Client, Key, Ssh};
pub use company::Company;
pub use device::Device;
pub use host::{Output, cache_dir, eventually, past_the_next_minute, step};
pub use house::{House, sessions_of};
pub use iam::Iam;
pub use instance::{Hierarchy, Instance, remove_leftovers};
pub use layers::{Release, built_client, built_compliance_api, built_package};
pub use server::Server;
pub use stack::Stack;

/// The daemon's process id, for a shell: systemd knows the process that supervises it.
pub const DAEMON: &str = "$(pgrep -P \"$(systemctl show -P MainPID lockdownd)\")";

/// Turns each scenario `fn name(release) { … }` into two tests, `bookworm::name` and `trixie::name`. Attributes such as
/// `#[ignore]` go onto both. Use it once per file.
#[macro_export]
macro_rules! on_each_release {
    ($($(#[$attribute:meta])* fn $name:ident($release:ident) $body:block)+) => {
        $(fn $name($release: $crate::Release) $body)+

        mod bookworm {
            $(#[test] $(#[$attribute])* fn $name() { super::$name($crate::Release::Bookworm) })+
        }

        mod trixie {
            $(#[test] $(#[$attribute])* fn $name() { super::$name($crate::Release::Trixie) })+
        }
    };
}
