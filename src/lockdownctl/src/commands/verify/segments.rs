//! The ledger's segment files, read in order, line by line, each line bounded.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use record::{MAX_LINE, Verifier};

/// How many digits a segment's name has.
const DIGITS: usize = 12;
/// How long a line without an end may take to get one: the daemon may be writing it just now.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often that is waited for.
const TRIES: u32 = 10;

/// A ledger that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub(super) struct SegmentError {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

/// Feeds every line of the ledger in `dir`. Returns what is off about the files themselves.
pub(super) fn feed(dir: &Path, verifier: &mut Verifier) -> Result<Vec<String>, SegmentError> {
    let mut misplaced = Vec::new();
    let segments = list(dir, &mut misplaced)?;
    let last = segments.len().saturating_sub(1);
    for (index, (first, path)) in segments.iter().enumerate() {
        let at = |error| SegmentError { path: path.clone(), error };
        let mut reader = BufReader::new(File::open(path).map_err(at)?);
        let mut starts = None;
        while let Some(line) = next_line(&mut reader, index == last).map_err(at)? {
            let (record, _) = verifier.line(&line);
            starts = starts.or(record.map(record::Record::seq));
        }
        match starts {
            Some(seq) if seq == *first => {}
            Some(seq) => misplaced.push(format!("{}: its first record is {seq}", path.display())),
            None => misplaced.push(format!("{}: it holds no record", path.display())),
        }
    }
    Ok(misplaced)
}

/// The segments by their first number. Anything else that claims to be one is a finding.
fn list(dir: &Path, misplaced: &mut Vec<String>) -> Result<Vec<(u64, PathBuf)>, SegmentError> {
    let at = |error| SegmentError { path: dir.to_owned(), error };
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).map_err(at)? {
        let entry = entry.map_err(at)?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let digits = path.file_stem().and_then(|stem| stem.to_str());
        let digits = digits.filter(|stem| stem.len() == DIGITS && stem.bytes().all(|b| b.is_ascii_digit()));
        let regular = entry.file_type().map_err(at)?.is_file();
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(first) if regular => segments.push((first, path)),
            Some(_) => misplaced.push(format!("{}: it is not a regular file", path.display())),
            None => misplaced.push(format!("{}: it is not named like a segment", path.display())),
        }
    }
    segments.sort();
    Ok(segments)
}

/// The next line with its newline, cut where it is too long to be a record; `None` at the end. In the last segment a
/// line without an end is given time to get one.
fn next_line(reader: &mut impl BufRead, may_grow: bool) -> io::Result<Option<Vec<u8>>> {
    let bound = MAX_LINE + 1;
    let mut line = Vec::new();
    let mut tries = if may_grow { TRIES } else { 0 };
    loop {
        let room = (bound - line.len()) as u64;
        reader.by_ref().take(room).read_until(b'\n', &mut line)?;
        if line.ends_with(b"\n") {
            return Ok(Some(line));
        }
        if line.len() == bound {
            reader.skip_until(b'\n')?;
            line.push(b'\n');
            return Ok(Some(line));
        }
        if line.is_empty() || tries == 0 {
            return Ok((!line.is_empty()).then_some(line));
        }
        tries -= 1;
        thread::sleep(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_long_ones_cut_and_the_last_one_as_it_is() {
        let long = "x".repeat(3 * MAX_LINE);
        let file = format!("a\n{long}\nb\n\nc");
        let mut reader = BufReader::with_capacity(7, file.as_bytes());
        let mut lengths = Vec::new();
        while let Some(line) = next_line(&mut reader, false).unwrap() {
            lengths.push((line.len(), line.ends_with(b"\n")));
        }
        assert_eq!(lengths, [(2, true), (MAX_LINE + 2, true), (2, true), (1, true), (1, false)]);
    }

    #[test]
    fn a_line_that_is_just_being_written_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("growing");
        fs::write(&path, "half").unwrap();
        let mut reader = BufReader::new(File::open(&path).unwrap());
        let writer = thread::spawn(move || {
            thread::sleep(PATIENCE * 2);
            fs::OpenOptions::new().append(true).open(path).and_then(|mut f| io::Write::write_all(&mut f, b" whole\n"))
        });
        assert_eq!(next_line(&mut reader, true).unwrap().unwrap(), b"half whole\n");
        writer.join().unwrap().unwrap();
    }
}
