//! What is measured, a module each.

pub(crate) mod attempts;
pub(crate) mod deadlines;
pub(crate) mod documents;
pub(crate) mod idle;
pub(crate) mod logins;
pub(crate) mod removals;
pub(crate) mod sweeps;
