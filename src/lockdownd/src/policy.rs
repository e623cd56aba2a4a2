//! Decides, without touching anything: what is seen and the time come in as arguments, a decision with its reason
//! comes out.

pub mod key_file;
