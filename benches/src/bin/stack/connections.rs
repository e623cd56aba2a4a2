//! Many connections in one thread.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// How long anything may be waited for, in milliseconds.
const LIMIT: u16 = 60_000;
/// Events that are taken at a time.
const AT_A_TIME: usize = 1_024;

/// All of them, by number.
pub(crate) struct Connections {
    streams: Vec<TcpStream>,
    epoll: Epoll,
    ready: VecDeque<usize>,
    buffer: Vec<u8>,
}

impl Connections {
    /// So many to an address, on each of which this is written at once.
    pub(crate) fn connect(address: SocketAddr, count: usize, first: impl Fn(usize) -> Vec<u8>) -> Self {
        let connect = |n: usize| {
            let mut stream = TcpStream::connect(address).expect("it takes connections");
            stream.write_all(&first(n)).expect("the other end reads");
            stream
        };
        Self::of((0..count).map(connect).collect())
    }

    /// The next that come, so many.
    pub(crate) fn accept(listener: &TcpListener, count: usize) -> Self {
        Self::of((0..count).map(|_| listener.accept().expect("a connection").0).collect())
    }

    fn of(streams: Vec<TcpStream>) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll instance");
        for (n, stream) in streams.iter().enumerate() {
            stream.set_nodelay(true).expect("an option of TCP");
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, n as u64);
            epoll.add(stream, event).expect("it is watched");
        }
        Self { streams, epoll, ready: VecDeque::new(), buffer: vec![0; 64 * 1024] }
    }

    pub(crate) fn count(&self) -> usize {
        self.streams.len()
    }

    /// Writes onto one of them.
    pub(crate) fn write(&mut self, n: usize, bytes: &[u8]) {
        self.streams[n].write_all(bytes).expect("the other end reads");
    }

    /// Waits for what comes next on any of them: on which one, and that. What is written at a time comes whole: it is smaller
    /// than a connection's buffer.
    pub(crate) fn next(&mut self) -> (usize, &[u8]) {
        if self.ready.is_empty() {
            let mut events = [EpollEvent::empty(); AT_A_TIME];
            let count = self.epoll.wait(&mut events, EpollTimeout::from(LIMIT)).expect("events");
            assert!(count > 0, "nothing comes");
            self.ready.extend(events[..count].iter().map(|event| usize::try_from(event.data()).expect("a number")));
        }
        let n = self.ready.pop_front().expect("one is ready");
        let length = self.streams[n].read(&mut self.buffer).expect("the other end writes");
        assert!(length > 0, "connection {n} was closed");
        (n, &self.buffer[..length])
    }
}
