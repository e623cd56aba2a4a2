//! The floor of a sweep: open, stat, read and close every key file, and nothing else.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use crate::{
    Failure,
    accounts::{KEY_FILES, home},
};

/// Walks the key files of accounts 0 to `count` once.
pub(crate) fn run(count: u32) -> Result<(), Failure> {
    let files: Vec<String> =
        (0..count).flat_map(|index| KEY_FILES.map(|name| format!("{}/.ssh/{name}", home(index)))).collect();
    let mut content = [0; 4096];
    let mut bytes = 0;
    let start = Instant::now();
    for file in &files {
        let mut opened = File::open(file)?;
        let size = opened.metadata()?.len();
        let read = opened.read(&mut content)?;
        bytes += size.min(read as u64);
    }
    let took = start.elapsed();
    if bytes == 0 {
        return Err("there was nothing to read".into());
    }
    println!("walk {}", took.as_nanos());
    Ok(())
}
