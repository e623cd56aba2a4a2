//! AWS: who asks, how requests are signed and sent, and what IAM and STS answer.

mod answers;
mod call;
mod credentials;
mod iam;
mod process;
mod profile;

pub(crate) use answers::{KeyStatus, ListedKey, ListedUser, Tags};
pub(crate) use call::{Access, CallError, Calls, Service};
pub(crate) use credentials::Credentials;
pub(crate) use iam::Iam;
