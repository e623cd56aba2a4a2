//! Hosts that wait for their feed: a connection each, all in one thread.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::server::{STACK, token};

/// How long an answer may be waited for.
const LIMIT: u16 = 60_000;
/// Events that are taken at a time.
const AT_A_TIME: usize = 1_024;

/// All of them.
pub(crate) struct Hosts {
    streams: Vec<TcpStream>,
    epoll: Epoll,
}

impl Hosts {
    /// Connects so many; each asks for what comes after the beginning, and waits.
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll instance");
        let connect = |n: usize| {
            let mut stream = TcpStream::connect(address).expect("the server takes connections");
            ask(&mut stream, n, 0);
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, n as u64);
            epoll.add(&stream, event).expect("it is watched");
            stream
        };
        let streams = (0..count).map(connect).collect();
        Self { streams, epoll }
    }

    /// Each asks for what comes after this place, and waits.
    pub(crate) fn ask(&mut self, after: u64) {
        self.streams.iter_mut().enumerate().for_each(|(n, stream)| ask(stream, n, after));
    }

    /// Reads an answer of each. They come whole: each is smaller than a connection's buffer.
    pub(crate) fn read_all(&mut self) {
        let mut missing = self.streams.len();
        let mut events = vec![EpollEvent::empty(); AT_A_TIME];
        let mut buffer = vec![0; 64 * 1024];
        while missing > 0 {
            let count = self.epoll.wait(&mut events, EpollTimeout::from(LIMIT)).expect("events");
            assert!(count > 0, "{missing} hosts have heard nothing");
            for event in &events[..count] {
                let n = usize::try_from(event.data()).expect("an index");
                let length = self.streams[n].read(&mut buffer).expect("an answer");
                let answer = String::from_utf8_lossy(&buffer[..length]);
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                assert!(answer.contains("\"position\""), "nothing is new in it: {answer}");
                missing -= 1;
            }
        }
    }
}

fn ask(stream: &mut TcpStream, n: usize, after: u64) {
    let question = format!("/v1/feed?stack={STACK}&after={after}&wait=300");
    let request = format!("GET {question} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n", token(n));
    stream.write_all(request.as_bytes()).expect("the server reads");
}
