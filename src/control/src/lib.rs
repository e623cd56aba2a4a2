//! See the workspace plan.
