//! The mode: sshd's drop-in, the marker of enforce, what stands in the way of either, and the configuration's files.

use std::{collections::BTreeMap, time::Duration};

use control::Mode;
use lockdown_core::{
    config::Accounts,
    machine::{
        Around, Event, Token,
        checks::{Check, Checked, Step, Waits},
        mode::{MarkerLeft, Obstacle},
        reload::{Loaded, takes_away},
    },
    policy::time::Deadline,
};
use record::Actor;

use super::world::{World, around, config};

/// How long an operator who tries enforce waits at most: several jobs may have to be given up before.
const TRIED: Duration = Duration::from_secs(1_200);
/// The same for one who has the configuration read.
const RELOADED: Duration = Duration::from_secs(1_200);
/// The same for one who asks for what depends on a look.
const LOOKED: Duration = Duration::from_secs(21);

/// What is durable of it, whatever becomes of the daemon.
#[derive(Debug)]
pub(crate) struct Etc {
    pub(crate) drop_in: bool,
    pub(crate) marker: Option<Vec<u8>>,
    /// Something stands in the way of enforce.
    pub(crate) in_the_way: bool,
    /// sshd does not take the drop-in.
    pub(crate) put_fails: bool,
    /// An account that there is not.
    pub(crate) without: Option<&'static str>,
    /// Whether any exempt account could log in.
    pub(crate) rescue_works: bool,
    /// The drop-in was taken away last, which the core may not know yet.
    is_leaving: bool,
    /// What was last read would lock everybody out.
    locks_out: bool,
}

impl Etc {
    /// Enforce is in force.
    pub(crate) fn new() -> Self {
        let marker = Some(b"{}".to_vec());
        Self {
            drop_in: true,
            marker,
            in_the_way: false,
            put_fails: false,
            without: None,
            rescue_works: true,
            is_leaving: false,
            locks_out: false,
        }
    }

    pub(crate) fn around(&self) -> Around {
        around(self.without)
    }

    pub(crate) fn marker_left(&self) -> MarkerLeft {
        self.marker.clone().map_or(MarkerLeft::Nothing, MarkerLeft::Holds)
    }
}

impl World {
    pub(crate) fn something_changes(&mut self) {
        let (random, etc) = (&mut self.random, &mut self.etc);
        etc.rescue_works = random.percent(60);
        if self.is_moody {
            etc.in_the_way = random.percent(30);
            etc.put_fails = random.percent(20);
        }
        let told = format!("in the way: {}, rescue works: {}", self.etc.in_the_way, self.etc.rescue_works);
        self.log(told);
        self.act(Event::RescueTouched);
    }

    pub(crate) fn try_enforce(&mut self) {
        let token = self.asks_for(TRIED);
        let span = Duration::from_secs(1 + self.random.below(100));
        self.log(format!("{} enforce --for {span:?}", token.0));
        let until = Deadline::after(span, self.now);
        self.act(Event::Trial { until, actor: Actor::default(), token });
    }

    pub(crate) fn look(&mut self) {
        let token = self.asks_for(LOOKED);
        let whose = if self.random.percent(50) { Waits::Status(token) } else { Waits::Plan(token) };
        self.log(format!("{} status or plan", token.0));
        self.act(Event::Looks(whose));
    }

    pub(crate) fn reload_by_job(&mut self) {
        let token = if self.random.percent(50) { Some(self.asks_for(RELOADED)) } else { None };
        self.log(format!("{token:?} reload: configuration {}", self.config));
        self.act(Event::Reload(token));
    }

    fn asks_for(&mut self, most: Duration) -> Token {
        let token = Token(self.number());
        self.jobs.asks(token, self.elapsed, most);
        token
    }

    /// What a job does of it.
    pub(crate) fn check(&mut self, check: &Check) -> Event {
        let etc = &mut self.etc;
        let mut put = Ok(());
        match check.step {
            Step::LookBefore | Step::LookInForce => {}
            Step::TakeOut => (etc.drop_in, etc.is_leaving) = (false, true),
            Step::Put | Step::PutIn => {
                if check.step == Step::PutIn {
                    etc.marker = Some(check.marker.clone());
                }
                match etc.put_fails {
                    true => put = Err("sshd did not come back".to_owned()),
                    false => (etc.drop_in, etc.is_leaving) = (true, false),
                }
            }
        }
        let told = "UsePAM is off".to_owned();
        let obstacle = Obstacle { identity: told.clone(), told, keeps_all_out: false };
        let is_asked = check.step != Step::TakeOut && etc.in_the_way;
        Event::Checked(Box::new(Checked {
            put,
            obstacles: if is_asked { vec![obstacle] } else { Vec::new() },
            not_honoured: Vec::new(),
            exempt_keys: BTreeMap::new(),
            passed: BTreeMap::new(),
            is_watched: true,
        }))
    }

    /// Reads the configuration.
    pub(crate) fn read_config(&mut self, before: &Accounts) -> Event {
        let config = config(self.config, self.stack.is_on);
        let is_lost = takes_away(before, &config.accounts) && !self.etc.rescue_works;
        self.etc.locks_out = is_lost;
        let locks_out = is_lost.then(|| "its password has expired".to_owned());
        Event::Loaded(Box::new(Loaded { config: Ok(config), locks_out }))
    }

    /// Another configuration is in force: nobody was locked out by it.
    pub(crate) fn config_changes(&mut self) {
        let enforces = self.core.enforces() && self.core.config.mode == Mode::Enforce;
        assert!(!enforces || !self.etc.locks_out, "nobody could come to the rescue");
        self.core.back_grants(self.now);
    }

    /// Homes are told whether key files go: not while sshd may still read them.
    pub(crate) fn homes_are_told(&self) {
        let may_remove = self.etc.drop_in || self.etc.is_leaving;
        assert!(!self.core.mode.removes_keys() || may_remove, "sshd reads homes, and keys in them go");
    }

    /// Once everything has come to rest, the mode is what the configuration says.
    pub(crate) fn mode_rests(&self) {
        let wanted = self.core.config.mode == Mode::Enforce;
        assert!(self.core.mode.trial.is_none() || wanted, "the trial is over");
        let is = (self.core.enforces(), self.core.mode.is_entering, self.etc.drop_in, self.etc.marker.is_some());
        assert_eq!(is, (wanted, false, wanted, wanted), "enforces, is entering it, drop-in, marker");
    }
}
