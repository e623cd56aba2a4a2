//! Registers a descriptor with the tokio runtime, in the one way that needs no `unsafe`.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a descriptor to wait until it is readable. Must run inside a tokio runtime with I/O enabled.
///
/// # Errors
/// When the runtime's epoll refuses it.
#[expect(
    deprecated,
    reason = "its fault is to take any AsRawFd; an OwnedFd keeps its one descriptor open, and the successor is unsafe"
)]
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
