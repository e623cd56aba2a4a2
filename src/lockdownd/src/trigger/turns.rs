//! Whose turn it is: nobody waits long because others have much to say.
//!
//! There are those that somebody waits for, and the others. The two halves take turns, and so do those within each half. So
//! what comes to an idle queue that somebody waits for is next, behind the one reason that is being acted on; and with every
//! queue full, one of each of the others comes in between at most.

/// Where a reason comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The clock: something is due.
    Deadline,
    /// The gate asks about a login.
    Login,
    /// An operator asks, or a signal does.
    Operator,
    /// A place that is watched was touched.
    Touched,
    /// The daemon's own jobs, connections and ticks.
    Own,
    /// sshd's log.
    Log,
    /// The homes threads.
    Homes,
}

/// Those that somebody waits for, in the order in which they come where all of them are idle.
pub(super) const AWAITED: [Class; 3] = [Class::Deadline, Class::Login, Class::Operator];
/// The others.
pub(super) const OTHERS: [Class; 4] = [Class::Touched, Class::Own, Class::Log, Class::Homes];

/// Who has had a turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The first of each half to be asked.
    awaited: usize,
    others: usize,
    /// Whether the last turn was of those that somebody waits for.
    others_first: bool,
}

impl Turns {
    /// In which order they are asked for a reason.
    pub(super) fn order(&self) -> impl Iterator<Item = Class> {
        let (mut awaited, mut others) = (AWAITED, OTHERS);
        awaited.rotate_left(self.awaited);
        others.rotate_left(self.others);
        let first = self.others_first;
        others.into_iter().filter(move |_| first).chain(awaited).chain(others.into_iter().filter(move |_| !first))
    }

    /// One of this class has had its turn.
    pub(super) fn taken(&mut self, class: Class) {
        let place = |of: &[Class]| of.iter().position(|one| *one == class).map(|place| (place + 1) % of.len());
        if let Some(next) = place(&AWAITED) {
            (self.awaited, self.others_first) = (next, true);
        } else if let Some(next) = place(&OTHERS) {
            (self.others, self.others_first) = (next, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn next(turns: &mut Turns, is_ready: impl Fn(Class) -> bool) -> Option<Class> {
        let class = turns.order().find(|class| is_ready(*class))?;
        turns.taken(class);
        Some(class)
    }

    #[test]
    fn with_every_queue_full_each_waits_for_one_of_each_other_at_most() {
        let mut turns = Turns::default();
        let mut since: BTreeMap<Class, Vec<Class>> =
            AWAITED.into_iter().chain(OTHERS).map(|c| (c, Vec::new())).collect();
        for _ in 0..1_000 {
            let class = next(&mut turns, |_| true).expect("all are ready");
            since.insert(class, Vec::new());
            for (waiting, before) in since.iter_mut().filter(|(waiting, _)| **waiting != class) {
                // The others are four to three: the same of those somebody waits for comes twice in their round.
                assert!(OTHERS.contains(waiting) || !before.contains(&class), "{waiting:?} waits for {before:?}");
                before.push(class);
                assert!(before.len() <= AWAITED.len() + OTHERS.len(), "{waiting:?} waits for {before:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_floods_the_others_who_somebody_waits_for_is_next(
            served in prop::collection::vec(0usize..7, 0..20),
            arrives in 0usize..3,
        ) {
            let classes: Vec<Class> = AWAITED.into_iter().chain(OTHERS).collect();
            let mut turns = Turns::default();
            served.into_iter().for_each(|n| turns.taken(classes[n]));
            // The last turn was one of the flood's.
            let flood = next(&mut turns, |class| OTHERS.contains(&class)).expect("a flood");
            prop_assert!(OTHERS.contains(&flood));
            let arrived = AWAITED[arrives];
            prop_assert_eq!(next(&mut turns, |class| OTHERS.contains(&class) || class == arrived), Some(arrived));
        }

        #[test]
        fn none_of_those_that_somebody_waits_for_waits_for_more_than_one_of_another_such(
            served in prop::collection::vec(0usize..7, 0..20),
            arrives in 0usize..3,
        ) {
            let classes: Vec<Class> = AWAITED.into_iter().chain(OTHERS).collect();
            let mut turns = Turns::default();
            served.into_iter().for_each(|n| turns.taken(classes[n]));
            let mut before = Vec::new();
            loop {
                let class = next(&mut turns, |_| true).expect("all are ready");
                if class == AWAITED[arrives] { break }
                prop_assert!(!before.contains(&class), "{:?} twice", class);
                before.push(class);
            }
        }
    }
}
