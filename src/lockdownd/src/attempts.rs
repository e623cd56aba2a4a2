//! Logins as sshd's log tells of them: the thread that reads it, and what is kept on disk of it. What the lines come to is
//! counted by [`lockdown_core::attempts`].

mod back;
mod follow;
pub(crate) mod names;
mod store;

pub use self::{
    back::read_back,
    follow::{Follower, LogReport, Statements},
    names::NAME_KEY,
    store::{STATE, StateError},
};
