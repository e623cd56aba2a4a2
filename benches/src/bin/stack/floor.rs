//! The bare fan-out: the same bytes over as many connections, and back, by a server that knows nothing of them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use crate::connections::Connections;

/// One that serves so many hosts, by two connections of each, and one who commands.
pub(crate) struct Bare {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

/// What it writes.
pub(crate) struct Bytes {
    /// To each host.
    pub(crate) document: Vec<u8>,
    /// To each that answers.
    pub(crate) receipt: Vec<u8>,
    /// How many each answers, in order.
    pub(crate) answers: Vec<usize>,
}

impl Bare {
    /// The hosts connect first for what they hear, then for what they say; who commands comes last. It writes a byte and gets one
    /// back for each host that has answered.
    pub(crate) fn start(bytes: Bytes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        Self { address, serving: thread::spawn(move || serve(&listener, &bytes)) }
    }

    pub(crate) fn end(self) {
        self.serving.join().expect("it served");
    }
}

fn serve(listener: &TcpListener, bytes: &Bytes) {
    let count = bytes.answers.len();
    let mut heard = Connections::accept(listener, count);
    let mut said = Connections::accept(listener, count);
    let (mut commander, _) = listener.accept().expect("a connection");
    commander.set_nodelay(true).expect("an option of TCP");
    while commands(&mut commander) {
        (0..count).for_each(|n| heard.write(n, &bytes.document));
        let mut missing = bytes.answers.clone();
        let mut left = count;
        while left > 0 {
            let (n, came) = said.next();
            missing[n] -= came.len();
            if missing[n] == 0 {
                left -= 1;
                said.write(n, &bytes.receipt);
                commander.write_all(b".").expect("who commands listens");
            }
        }
    }
}

/// Whether there is another command.
fn commands(commander: &mut TcpStream) -> bool {
    commander.read(&mut [0; 1]).expect("who commands writes") == 1
}
