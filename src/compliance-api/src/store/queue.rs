//! What waits for the thread that writes. Each kind has room of its own, so that none keeps another out, and takes its turn.
//!
//! Documents go first: a lockdown waits for nobody's records or reads. Then what admins change: a token that is revoked does
//! nothing of what waits.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::Error;

/// What a job is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Signed documents.
    Documents,
    /// Hosts' records, once their signatures were verified.
    Hosts,
    /// What clients and people state.
    Clients,
    /// Reads, which are stated; what holds nothing to store.
    Readers,
    /// The server's own, and what admins change.
    Server,
}

impl Room {
    /// Every kind, in the order of the rooms.
    const ALL: [Self; ROOMS] = [Self::Documents, Self::Hosts, Self::Clients, Self::Readers, Self::Server];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Hosts => "hosts",
            Self::Clients => "clients",
            Self::Readers => "readers",
            Self::Server => "server",
        }
    }
}

/// Where a job waits, and how much of the room there it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    room: Room,
    size: usize,
}

impl Room {
    /// A place for so many records, of which a batch of one is nothing beside one of hundreds: a thousand hosts may answer at a
    /// time.
    #[must_use]
    pub fn of(self, records: usize) -> Place {
        Place { room: self, size: records }
    }
}

impl From<Room> for Place {
    fn from(room: Room) -> Self {
        Self { room, size: 1 }
    }
}

/// Those that go first, in this order.
const FIRST: [Room; 2] = [Room::Documents, Room::Server];
/// Those that take turns.
const BY_TURNS: [Room; 3] = [Room::Hosts, Room::Clients, Room::Readers];
const ROOMS: usize = FIRST.len() + BY_TURNS.len();

/// The queue, with room for each kind.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    came: Condvar,
    bounds: [usize; ROOMS],
}

#[derive(Debug)]
struct Waiting<T> {
    rooms: [VecDeque<(usize, T)>; ROOMS],
    /// How much of each is taken.
    taken: [usize; ROOMS],
    closed: bool,
}

impl<T> Queue<T> {
    /// For so many jobs of each kind; of hosts' records, so many batches of this size.
    pub(super) fn new(room: usize, batch: usize) -> Self {
        let rooms = std::array::from_fn(|_| VecDeque::new());
        let mut bounds = [room; ROOMS];
        bounds[Room::Hosts as usize] = room.saturating_mul(batch);
        let waiting = Mutex::new(Waiting { rooms, taken: [0; ROOMS], closed: false });
        Self { waiting, came: Condvar::new(), bounds }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one where its kind waits.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Closed`].
    pub(super) fn put(&self, place: impl Into<Place>, job: T) -> Result<(), Error> {
        let place = place.into();
        self.put_if(place, job, |taken| taken < self.bounds[place.room as usize])
    }

    /// The same where that kind has no room left: for what is asked one at a time.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) fn put_anyway(&self, room: Room, job: T) -> Result<(), Error> {
        self.put_if(room.into(), job, |_| true)
    }

    fn put_if(&self, place: Place, job: T, fits: impl FnOnce(usize) -> bool) -> Result<(), Error> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(Error::Closed);
        }
        let room = place.room as usize;
        if !fits(waiting.taken[room]) {
            return Err(Error::Full);
        }
        waiting.taken[room] += place.size;
        waiting.rooms[room].push_back((place.size, job));
        self.came.notify_one();
        Ok(())
    }

    /// Waits for jobs, and takes so many at most into what is empty: none once it is closed and empty.
    pub(super) fn take(&self, most: usize, into: &mut Vec<T>) {
        let waiting = self.waiting();
        let idle = |waiting: &mut Waiting<T>| !waiting.closed && waiting.rooms.iter().all(VecDeque::is_empty);
        let mut waiting = self.came.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
        for room in FIRST {
            while into.len() < most
                && let Some(job) = waiting.next(room)
            {
                into.push(job);
            }
        }
        loop {
            let before = into.len();
            for room in BY_TURNS {
                if into.len() < most {
                    into.extend(waiting.next(room));
                }
            }
            if into.len() == before {
                return;
            }
        }
    }

    /// Takes nothing more in. What waits is still taken out.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.came.notify_all();
    }

    /// How many wait, of each kind.
    pub(super) fn lengths(&self) -> Vec<(&'static str, usize)> {
        let waiting = self.waiting();
        Room::ALL.into_iter().map(|room| (room.as_str(), waiting.rooms[room as usize].len())).collect()
    }
}

impl<T> Waiting<T> {
    /// Takes out what waits longest of a kind.
    fn next(&mut self, room: Room) -> Option<T> {
        let (size, job) = self.rooms[room as usize].pop_front()?;
        self.taken[room as usize] -= size;
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &Queue<&'static str>, most: usize) -> Vec<&'static str> {
        let mut taken = Vec::new();
        queue.take(most, &mut taken);
        taken
    }

    #[test]
    fn documents_go_first_then_the_servers_own_and_the_others_by_turns() {
        let queue = Queue::new(8, 500);
        let all = [(Room::Readers, "a read"), (Room::Hosts, "records"), (Room::Server, "the server's")];
        for (room, job) in all.into_iter().cycle().take(9) {
            queue.put(room, job).unwrap();
        }
        queue.put(Room::Clients, "a client's").unwrap();
        queue.put(Room::Documents, "a lockdown").unwrap();
        let first = take(&queue, 6);
        assert_eq!(first, ["a lockdown", "the server's", "the server's", "the server's", "records", "a client's"]);
        assert_eq!(take(&queue, 64).len(), 5);
    }

    #[test]
    fn a_kind_that_is_full_keeps_no_other_out() {
        let queue = Queue::new(2, 500);
        (0..2).for_each(|_| queue.put(Room::Readers, "a read").unwrap());
        assert!(matches!(queue.put(Room::Readers, "one more"), Err(Error::Full)));
        for room in [Room::Documents, Room::Hosts, Room::Clients, Room::Server] {
            queue.put(room, "of another kind").unwrap();
        }
        queue.put_anyway(Room::Readers, "one at a time").unwrap();
        let lengths = [("documents", 1), ("hosts", 1), ("clients", 1), ("readers", 3), ("server", 1)];
        assert_eq!(queue.lengths(), lengths);
    }

    #[test]
    fn a_thousand_hosts_with_a_record_each_have_room_and_what_is_taken_out_makes_room() {
        let queue = Queue::new(4, 500);
        (0..1_000).for_each(|_| queue.put(Room::Hosts.of(2), "two records").unwrap());
        assert!(matches!(queue.put(Room::Hosts.of(1), "one more"), Err(Error::Full)));
        assert_eq!(take(&queue, 250).len(), 250);
        queue.put(Room::Hosts.of(500), "a batch").unwrap();
        assert!(matches!(queue.put(Room::Hosts.of(1), "one more"), Err(Error::Full)));
    }

    #[test]
    fn what_waits_when_it_is_closed_is_taken_and_nothing_more_comes() {
        let queue = Queue::new(2, 500);
        queue.put(Room::Hosts, "records").unwrap();
        queue.close();
        assert!(matches!(queue.put(Room::Hosts, "later"), Err(Error::Closed)));
        assert!(matches!(queue.put_anyway(Room::Hosts, "later"), Err(Error::Closed)));
        assert_eq!(take(&queue, 64), ["records"]);
        assert!(take(&queue, 64).is_empty(), "the end");
    }
}
