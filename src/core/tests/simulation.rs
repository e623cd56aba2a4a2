//! The core in a small world of its own, for as many random events as there is time for: logins, grants, ends, reloads, clocks
//! that are set, disks that fail, stand still or are missing, and a crash after any effect. What must always hold is checked
//! after each step.
//!
//! A failing seed prints itself, how to run it again, and the last steps. `SIMULATE_SEED` runs one seed, `SIMULATE_SECONDS` as
//! many new ones as fit (`tests/simulate` sets them).

mod simulation {
    pub(crate) mod checks;
    pub(crate) mod daemon;
    pub(crate) mod disk;
    pub(crate) mod jobs;
    pub(crate) mod mode;
    pub(crate) mod stack;
    pub(crate) mod world;
}

use std::{
    env,
    time::{Duration, Instant, SystemTime},
};

use simulation::world::World;

/// How many steps one seed takes.
const STEPS: u32 = 400;
/// The seeds that every run of the tests takes.
const FIXED: u64 = 200;

/// How many steps there were, and how many documents gave a grant.
fn run(seed: u64) -> (u32, usize) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.random_step();
    }
    world.come_to_rest();
    (STEPS, world.documents_given())
}

#[test]
fn nobody_is_in_without_a_grant_and_nothing_is_lost_whatever_happens_in_whatever_order() {
    if let Ok(seed) = env::var("SIMULATE_SEED") {
        run(seed.parse().expect("a number"));
        return;
    }
    let seconds = env::var("SIMULATE_SECONDS").ok().map(|seconds| seconds.parse().expect("a number of seconds"));
    let (began, mut steps, mut given) = (Instant::now(), 0_u64, 0);
    for seed in 0..FIXED {
        let (its_steps, its_given) = run(seed);
        steps += u64::from(its_steps);
        given += its_given;
    }
    assert!(given >= 100, "a world in which documents give next to nothing shows nothing: {given}");
    // And new ones, one at least: the fixed ones take longer than that.
    let mut seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs()) << 20;
    let until = Duration::from_secs(seconds.unwrap_or(5));
    let mut is_first = seconds != Some(0);
    while std::mem::take(&mut is_first) || began.elapsed() < until {
        seed += 1;
        steps += u64::from(run(seed).0);
    }
    let took = began.elapsed();
    println!("{steps} steps in {took:.1?}: {:.0} a second", steps as f64 / took.as_secs_f64());
}
