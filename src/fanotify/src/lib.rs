//! Who wrote a file, as the kernel tells it: fanotify(7) with marks on directories, and a pidfd of each writer.
//!
//! `CAP_SYS_ADMIN` is needed when the group is made ([`Watch::new`]) and never again. So a process that lives for a
//! millisecond makes it, and the one that watches takes it over without any such capability ([`Watch::passed`]): its events
//! name their writers all the same. It needs Linux 5.17.
//!
//! This crate decides nothing and remembers nothing. It exists apart from everything else because it alone holds unsafe
//! code: each block is one system call, or takes over one descriptor that the kernel has just handed out. What the
//! kernel writes is read by safe code ([`parse`]), with every bound checked.

mod event;
mod file_id;
mod watch;

pub use event::{MAX_HANDLE, Malformed, RawEvent, parse};
pub use file_id::FileId;
pub use watch::{BUFFER, Changes, Event, Watch, Writer};
