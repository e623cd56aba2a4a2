//! Tar in the one form that a case file has: plain files, ustar headers without a prefix, nothing left to chance. So each
//! byte of an archive is either a member's or known beforehand.

use std::io::{self, Read};

/// Bytes of a block.
const BLOCK: usize = 512;
/// Bytes of zeros at the end.
const END: usize = 2 * BLOCK;
/// The longest name.
const NAME: usize = 100;

/// Why an archive is none that a server wrote.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It ends too early.
    #[error("it is cut off at byte {0}")]
    Cut(u64),
    /// A header is not as it was written.
    #[error(
        "the header at byte {0} is not one that a case file has: it was changed, or this is another archive, with links or directories"
    )]
    Header(u64),
    /// A name that no member has.
    #[error("the member {name:?} at byte {at} is none that a case file has")]
    Name {
        /// Its name, made plain.
        name: String,
        /// Where its header is.
        at: u64,
    },
    /// Longer than any such member.
    #[error("{name} says that it has {size} bytes, and has {most} at most")]
    TooLong {
        /// Its name.
        name: String,
        /// What its header says.
        size: u64,
        /// The bound.
        most: u64,
    },
    /// What fills up the last block of a member, or the end, is something.
    #[error("at byte {0} there is something where nothing has to be")]
    Filling(u64),
    /// More members than are read.
    #[error("it has over {0} members")]
    TooMany(usize),
}

/// A header for a plain file.
pub(crate) fn header(name: &str, size: u64, time: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(NAME)]);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{time:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// How many zeros follow a member of this size.
pub(crate) fn filling(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

/// What ends an archive.
pub(crate) fn end() -> [u8; END] {
    [0; END]
}

/// What a header says.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) time: u64,
    pub(crate) at: u64,
}

/// Reads an archive from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    at: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, at: 0 }
    }

    /// The next member's header; none at the end, which has been checked to be one.
    pub(crate) fn head(&mut self) -> Result<Option<Head>, TarError> {
        let at = self.at;
        let block = self.block()?;
        if block == [0; BLOCK] {
            if self.block()? != [0; BLOCK] {
                return Err(TarError::Filling(at + BLOCK as u64));
            }
            let mut one = [0];
            return if self.input.read(&mut one)? == 0 { Ok(None) } else { Err(TarError::Filling(self.at)) };
        }
        let text = |from: usize, to: usize| {
            let field = &block[from..to];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            std::str::from_utf8(&field[..end]).ok()
        };
        let number = |from: usize| u64::from_str_radix(text(from, from + 12)?, 8).ok();
        let fields = || Some(Head { name: text(0, NAME)?.to_owned(), size: number(124)?, time: number(136)?, at });
        let head = fields().filter(|head| header(&head.name, head.size, head.time) == block);
        head.map(Some).ok_or(TarError::Header(at))
    }

    /// The content of the member whose header came last, which may be so long.
    pub(crate) fn content(&mut self, head: &Head, most: u64) -> Result<Vec<u8>, TarError> {
        if head.size > most {
            return Err(TarError::TooLong { name: head.name.clone(), size: head.size, most });
        }
        // Grows with what is really there, not with what the header says.
        let mut content = Vec::new();
        (&mut self.input).take(head.size).read_to_end(&mut content)?;
        self.at += content.len() as u64;
        if (content.len() as u64) < head.size {
            return Err(TarError::Cut(self.at));
        }
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..filling(head.size)];
        self.fill(rest)?;
        match rest.iter().position(|byte| *byte != 0) {
            Some(place) => Err(TarError::Filling(self.at - rest.len() as u64 + place as u64)),
            None => Ok(content),
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TarError> {
        match self.input.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(TarError::Cut(self.at)),
            Err(error) => Err(error.into()),
        }
    }
}
