//! The question and its answer over the daemon's socket, within one deadline.
//!
//! The socket lies in a directory that only root writes, so whoever listens there is root.

use std::{io, os::unix::net::UnixStream, path::Path, sync::mpsc, thread, time::Duration};

use control::{
    frame::{self, FrameError},
    gate::{self, Answer, Question},
};

/// How long to wait before asking a daemon again that hung up.
const RETRY: Duration = Duration::from_millis(50);

/// The daemon did not answer in time, or not with an answer.
#[derive(Debug)]
pub(crate) struct NoAnswer;

/// Asks the daemon, for at most [`gate::PATIENCE`]; where the account is exempt, [`gate::EXEMPT_PATIENCE`].
///
/// # Errors
/// [`NoAnswer`]; why makes no difference to the login.
pub(crate) fn daemon(question: &Question, exempt: bool) -> Result<Answer, NoAnswer> {
    let patience = if exempt { gate::EXEMPT_PATIENCE } else { gate::PATIENCE };
    ask(Path::new(gate::SOCKET), question, patience)
}

/// The talk runs in a thread of its own: connecting, too, waits where the daemon's backlog is full, and a peer that sends a
/// byte now and then renews every timeout of a single read. The process ends with the deadline, and the thread with it.
fn ask(socket: &Path, question: &Question, patience: Duration) -> Result<Answer, NoAnswer> {
    let (answers, answer) = mpsc::sync_channel(1);
    let (socket, question) = (socket.to_owned(), question.clone());
    thread::Builder::new().spawn(move || answers.send(talk_until_heard(&socket, &question))).map_err(|_| NoAnswer)?;
    match answer.recv_timeout(patience) {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(NoAnswer),
    }
}

/// Asks again where the daemon hung up, or its socket is there and nobody listens: it is being replaced, and its successor
/// answers at the same place. Where it was stopped there is no socket.
fn talk_until_heard(socket: &Path, question: &Question) -> Result<Answer, FrameError> {
    loop {
        match talk(socket, question) {
            Err(FrameError::Io(error)) if hung_up(&error) => thread::sleep(RETRY),
            heard => return heard,
        }
    }
}

fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | UnexpectedEof)
}

fn talk(socket: &Path, question: &Question) -> Result<Answer, FrameError> {
    let mut stream = UnixStream::connect(socket)?;
    frame::write(&mut stream, question, gate::MAX_FRAME)?;
    frame::read(&mut stream, gate::MAX_FRAME)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
        time::Instant,
    };

    use control::gate::Step;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    fn question() -> Question {
        Question {
            step: Step::Account,
            account: "ubuntu".into(),
            remote_host: None,
            connection: None,
            auth_info: None,
            service: None,
            tty: None,
        }
    }

    /// What the gate makes of a daemon that handles its one connection by `answer`.
    fn asked(answer: impl FnOnce(UnixStream) + Send + 'static) -> Result<Answer, NoAnswer> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || answer(listener.accept().unwrap().0));
        ask(&path, &question(), SHORT)
    }

    #[test]
    fn the_answer_to_the_question_comes_back() {
        let answer = asked(|mut stream| {
            assert_eq!(frame::read::<Question>(&mut stream, gate::MAX_FRAME).unwrap(), question());
            frame::write(&mut stream, &Answer::allow(), gate::MAX_FRAME).unwrap();
        });
        assert_eq!(answer.unwrap(), Answer::allow());
    }

    #[test]
    fn a_missing_socket_is_no_answer() {
        assert!(ask(Path::new("/nonexistent/gate.sock"), &question(), SHORT).is_err());
    }

    #[test]
    fn silence_hanging_up_and_rubbish_are_no_answer() {
        let _ = asked(|_open| thread::sleep(SHORT * 3)).unwrap_err();
        let _ = asked(drop).unwrap_err();
        let _ = asked(|mut stream| {
            let _ = stream.write_all(&[0, 0, 0, 4, b't', b'r', b'u', b'e']);
            let _ = stream.read(&mut [0; 64]);
        })
        .unwrap_err();
    }

    #[test]
    fn a_daemon_that_hangs_up_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            frame::read::<Question>(&mut stream, gate::MAX_FRAME).unwrap();
            frame::write(&mut stream, &Answer::allow(), gate::MAX_FRAME).unwrap();
        });
        assert_eq!(ask(&path, &question(), SHORT * 10).unwrap(), Answer::allow());
    }

    #[test]
    fn an_answer_that_trickles_does_not_outlast_the_deadline() {
        let began = Instant::now();
        let answer = asked(move |mut stream| {
            stream.write_all(&[0, 0, 1, 0]).unwrap();
            while stream.write_all(b" ").is_ok() && began.elapsed() < SHORT * 5 {
                thread::sleep(SHORT / 10);
            }
        });
        assert!(answer.is_err() && began.elapsed() < SHORT * 3, "{:?}", began.elapsed());
    }
}
