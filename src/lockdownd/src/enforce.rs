//! Applies what policy decided.

pub mod homes;
