//! `lockdownctl allow`: permission for one person to log in to one account until a set time.

use std::time::Duration;

use control::{Allow, AllowedAnswer, EffectiveEnd, EndCause, Refusal, RefusalCode};
use jiff::Timestamp;
use record::{Account, Actor, ArtifactType, Draft, GrantId, Person};

use super::{
    Core, Effect, First, MAX_LISTED, NotInForce, PATIENCE, Token, disk_refusal, grant_view,
    recorder::{NotWritten, Room},
};
use crate::{
    keys::person::{HARDWARE_TYPES, PersonKey},
    policy::{
        admission,
        grant::{Grant, Origin},
        time::{Deadline, Now},
    },
};

/// Who asks: checked, and ready for the record.
#[derive(Debug, Clone)]
pub struct Asker {
    /// For the record.
    pub actor: Actor,
}

impl Asker {
    /// The person whose session it is, where there is one.
    #[must_use]
    pub fn person(&self) -> Option<&Person> {
        self.actor.person.as_ref()
    }
}

/// The furthest ahead that a grant may begin.
const MAX_AHEAD: Duration = Duration::from_secs(31 * 86_400);

/// What was asked for and judged, and waits to be on disk.
#[derive(Debug)]
pub struct PendingAllow {
    asked: Allow,
    terms: Terms,
    grant: Grant,
    /// The grant that is in force and is to last longer.
    before: Option<Grant>,
    /// When it was asked for, on the boot clock.
    at: Duration,
    /// When it is refused, on the boot clock; `None` once it was.
    pub until: Option<Duration>,
    reply: Option<Token>,
}

/// A request that has been judged: what is to be granted.
#[derive(Debug)]
struct Terms {
    person: Person,
    account: Account,
    uid: u32,
    reason: String,
    starts_at: Timestamp,
    span: Duration,
}

impl Terms {
    /// How long until it begins.
    fn ahead(&self, now: Now) -> Duration {
        Duration::try_from(self.starts_at.duration_since(now.wall)).unwrap_or_default()
    }

    /// When it is to end.
    fn ends(&self, now: Now) -> Deadline {
        Deadline::after(self.ahead(now).saturating_add(self.span), now)
    }
}

impl Core {
    /// Grants, or extends the same grant: that takes effect, and is answered, once it is on disk. It was asked for at that
    /// moment of the boot clock.
    pub(super) fn allow(&mut self, asked: Allow, asker: &Asker, token: Token, at: Duration, now: Now) {
        if let Err(refusal) = self.begin_allow(asked, asker, (token, at), now) {
            self.push(Effect::Answer(token, Err(refusal)));
        }
    }

    fn begin_allow(
        &mut self,
        asked: Allow,
        asker: &Asker,
        (token, at): (Token, Duration),
        now: Now,
    ) -> Result<(), Refusal> {
        self.state_is_read()?;
        let terms = self.judge_terms(&asked, asker, now)?;
        let same = self.grants.open_ones().find(|grant| {
            // One that begins later is another grant: extending it would not let anybody in earlier. So is one that has
            // ended by then: extending it would let them in between.
            grant.person == terms.person
                && grant.account == terms.account
                && grant.uid == terms.uid
                && grant.from == asked.from
                && grant.recorded
                && !grant.ends.has_passed(now)
                && matches!(grant.origin, Origin::Operator { .. })
                && grant.starts_at <= terms.starts_at
                && terms.starts_at <= grant.ends.wall
        });
        let before = same.cloned();
        let grant = match &before {
            Some(grant) => extended(grant.clone(), &terms, now),
            None => self.new_grant(&asked, &terms, asker, now),
        };
        if before.as_ref().is_some_and(|before| before.ends == grant.ends) {
            let answer = self.allowed(&asked, &terms, &grant, before.as_ref(), now);
            self.answer_allowed(answer, token, at, now);
            return Ok(());
        }
        let required = self.required_of(&grant.account).for_record();
        let draft = created(&grant, before.as_ref(), asker, &terms.reason).with_some("required", required);
        let pending = PendingAllow {
            asked,
            terms,
            grant: grant.clone(),
            before: before.clone(),
            at,
            until: Some(at + PATIENCE),
            reply: Some(token),
        };
        let first = First::Allow(Box::new(pending));
        if before.is_some() {
            self.commit_first(vec![draft], Room::Free, first, now);
            return Ok(());
        }
        self.give(grant, vec![draft], first, now).map_err(|why| disk_refusal(&why))
    }

    /// What was granted is on disk, or is not.
    pub(super) fn allow_written(&mut self, allow: PendingAllow, written: Result<(), NotInForce>, now: Now) {
        let id = allow.grant.id.clone();
        let Some(token) = allow.reply else { return self.allow_came_late(&allow, written.is_ok(), now) };
        let done = written.and_then(|()| match allow.before.is_some() {
            true => self.prolong(&allow.grant, now),
            false => {
                self.takes_effect(&id, now);
                self.in_force(&id)
            }
        });
        match done {
            Ok(grant) => {
                let answer = self.allowed(&allow.asked, &allow.terms, &grant, allow.before.as_ref(), now);
                self.answer_allowed(answer, token, allow.at, now);
            }
            Err(why) => {
                if allow.before.is_none() {
                    self.take_back(&id, now);
                }
                self.push(Effect::Answer(token, Err(disk_refusal(&why))));
            }
        }
    }

    /// A later end is on record: the grant has it, unless it has ended meanwhile.
    fn prolong(&mut self, to: &Grant, now: Now) -> Result<Grant, NotInForce> {
        let before = self.in_force(&to.id)?.ends;
        if let Some(grant) = self.grants.get_mut(&to.id)
            && to.ends.remaining(now) > grant.ends.remaining(now)
        {
            grant.ends = to.ends;
        }
        self.grants_unsaved = true;
        self.pass(now);
        let grant = self.in_force(&to.id)?;
        if grant.ends != before {
            self.tell_new_end(&to.id, before.wall, now);
        }
        Ok(grant)
    }

    pub(super) fn in_force(&self, id: &GrantId) -> Result<Grant, NotInForce> {
        match self.grants.get(id) {
            Some(Grant { end: Some(end), .. }) => Err(NotInForce::Ended(end.reason.clone())),
            Some(grant) => Ok(grant.clone()),
            None => Err(NotInForce::Ended("it is not kept any more".to_owned())),
        }
    }

    /// The disk has not answered for long: whoever asked is told that nothing was granted, and so it stays.
    pub(super) fn allow_is_late(&mut self, allow: &mut PendingAllow, now: Now) {
        allow.until = None;
        if allow.before.is_none() {
            self.give_up_grant(&allow.grant.id, now);
        }
        if let Some(token) = allow.reply.take() {
            self.push(Effect::Answer(token, Err(disk_refusal(&NotWritten::Slow.into()))));
        }
    }

    /// What was not granted is on record all the same: that is put right.
    fn allow_came_late(&mut self, allow: &PendingAllow, written: bool, now: Now) {
        let id = allow.grant.id.clone();
        match (allow.before.is_some(), written) {
            (false, true) => {
                self.grants.mark_created_recorded(&id);
                self.grants_unsaved = true;
                self.look_behind(&[id], now);
            }
            (false, false) => self.take_back(&id, now),
            (true, true) => {
                if let Some(grant) = self.grants.get(&id).filter(|grant| grant.is_open()).cloned() {
                    let until = grant.ends.wall;
                    let sentence = format!(
                        "{}'s grant on {} lasts until {until:.0} as before: its extension came late, and whoever asked for it \
                         had been told that nothing was granted",
                        grant.person, grant.account
                    );
                    self.recorder
                        .note(grant_created(&grant, sentence).with("extends", allow.grant.ends.wall.to_string()));
                }
            }
            (true, false) => {}
        }
        self.commit(now);
    }

    /// The refusal of somebody whom the configuration does not name, with those whom it does.
    pub(super) fn unknown_person(&self, person: &Person) -> Refusal {
        let refusal = Refusal::new(RefusalCode::UnknownPerson, format!("nobody is named {person}"))
            .hint("these people exist (lockdownctl people):");
        let names = self.config.people.keys().take(MAX_LISTED);
        names.fold(refusal, |refusal, name| refusal.detail(name.as_str()))
    }

    /// Every check that does not touch the disk, in the order in which a person would mend them.
    fn judge_terms(&self, asked: &Allow, asker: &Asker, now: Now) -> Result<Terms, Refusal> {
        let config = &self.config;
        let Some(entry) = config.people.get(&asked.person) else {
            return Err(self.unknown_person(&asked.person));
        };
        if asker.person() == Some(&asked.person) && !config.grants.self_grants {
            return Err(Refusal::new(RefusalCode::NotPermitted, "nobody grants themselves access here")
                .hint("ask another operator, or set grants.self = true in the configuration"));
        }
        if entry.keys.is_empty() {
            return Err(Refusal::new(RefusalCode::NoKey, format!("{} has no key in the configuration", asked.person))
                .hint("add one to their [[person]] and reload"));
        }
        self.held_back(&asked.person, entry)?;
        let account = self.account_for(asked)?;
        self.judge_keys(&asked.person, &entry.keys, &account)?;
        let uid = self.uid_of(&account).ok_or_else(|| self.unknown_account(&account))?;
        if let Some(other) = self.kept_for(&account) {
            let message =
                format!("{account} has the user id of {other}: who logs in to it has {other}'s powers, files and keys");
            return Err(Refusal::new(RefusalCode::AccountNotGranted, message).hint(format!(
                "give {account} a user id of its own (usermod -u), or name another account with --account"
            )));
        }
        if self.around.globs && admission::is_pattern(account.as_str()) {
            let message = format!(
                "sshd would look for the keys of {account} in another file, since it takes the name for a pattern"
            );
            return Err(Refusal::new(RefusalCode::AccountNotGranted, message)
                .hint("OpenSSH 10 and later do so with *, ?, [ and \\: use an account of another name"));
        }
        let reason = asked.reason.clone().unwrap_or_default();
        if reason.trim().is_empty() && config.grants.require_reason {
            return Err(Refusal::new(RefusalCode::ReasonRequired, "a reason is required")
                .hint("add --reason, such as --reason INC-42"));
        }
        let starts_at = self.begins_at(asked, now)?;
        let span = self.span(asked)?;
        Ok(Terms { person: asked.person.clone(), account, uid, reason, starts_at, span })
    }

    /// Whether one of the person's keys is of a type that the account requires.
    fn judge_keys(&self, person: &Person, keys: &[PersonKey], account: &Account) -> Result<(), Refusal> {
        let Some(message) = self.unfit(person, account) else { return Ok(()) };
        let refusal = Refusal::new(RefusalCode::NoKey, message).hint(format!(
            "a key of the type {} would: ssh-keygen -t ed25519-sk makes one; add it to their [[person]] and reload. They have:",
            HARDWARE_TYPES.join(" or ")
        ));
        let keys = keys.iter().take(MAX_LISTED);
        Err(keys.fold(refusal, |refusal, key| refusal.detail(format!("{} {}", key.algorithm(), key.fingerprint()))))
    }

    fn unknown_account(&self, account: &Account) -> Refusal {
        // The accounts that systemd's source has are nobody's to make.
        let elsewhere: Vec<&str> =
            self.around.not_enumerated.iter().map(String::as_str).filter(|source| *source != "systemd").collect();
        if elsewhere.is_empty() {
            let message = format!("there is no account {account} on this host");
            return Refusal::new(RefusalCode::UnknownAccount, message)
                .hint("create it first (useradd), or name another with --account");
        }
        let elsewhere = elsewhere.join(", ");
        let message = format!("neither passwd nor {elsewhere} (nsswitch.conf) has an account {account}");
        let mut refusal = Refusal::new(RefusalCode::UnknownAccount, message).hint(format!(
            "create it in {elsewhere}, so that `getent passwd {account}` finds it, or name another with --account"
        ));
        // It may be there and not have been found.
        for what in self.not_seen_whole() {
            refusal = refusal.detail(format!("not seen whole: {what}"));
        }
        refusal
    }

    /// The account asked for, else the one named as the person, else the only one they may have.
    fn account_for(&self, asked: &Allow) -> Result<Account, Refusal> {
        let allowed = self.config.people.get(&asked.person).map(|entry| &entry.accounts);
        let allowed: Vec<&Account> = allowed.into_iter().flatten().collect();
        let list = |mut refusal: Refusal| {
            for account in allowed.iter().take(MAX_LISTED) {
                refusal = refusal.detail(account.as_str());
            }
            refusal
        };
        match &asked.account {
            Some(account) if self.config.accounts.exempt.contains(account) => {
                let message = format!("{account} is exempt: it keeps its own keys and takes no grants");
                Err(list(Refusal::new(RefusalCode::ExemptAccount, message).hint("name one of these with --account:")))
            }
            Some(account) if allowed.contains(&account) => Ok(account.clone()),
            Some(account) => {
                let message = format!("{} may not be given the account {account}", asked.person);
                Err(list(Refusal::new(RefusalCode::AccountNotGranted, message).hint("they may be given these:")))
            }
            None => match allowed.as_slice() {
                [only] => Ok((*only).clone()),
                several => match several.iter().find(|account| account.as_str() == asked.person.as_str()) {
                    Some(own) => Ok((*own).clone()),
                    None if several.is_empty() => {
                        let message = format!("{} may be given no account", asked.person);
                        Err(Refusal::new(RefusalCode::WhichAccount, message)
                            .hint("list accounts in their [[person]] and reload"))
                    }
                    None => {
                        let message = format!("{} may be given several accounts: say which", asked.person);
                        Err(list(Refusal::new(RefusalCode::WhichAccount, message).hint("name one with --account:")))
                    }
                },
            },
        }
    }

    fn begins_at(&self, asked: &Allow, now: Now) -> Result<Timestamp, Refusal> {
        let Some(at) = asked.at.filter(|at| *at > now.wall) else { return Ok(now.wall) };
        let ahead = Duration::try_from(at.duration_since(now.wall)).unwrap_or(Duration::MAX);
        if ahead <= MAX_AHEAD {
            return self.before_a_lockdown(at);
        }
        let most = control::format_duration(MAX_AHEAD);
        Err(Refusal::new(RefusalCode::BadTime, format!("{at} is too far ahead"))
            .hint(format!("a grant may begin at most {most} from now")))
    }

    /// A lockdown ends what has not begun as well: nothing is given that could never let anybody in.
    fn before_a_lockdown(&self, begins: Timestamp) -> Result<Timestamp, Refusal> {
        let Some(lockdown) = self.next_lockdown().filter(|lockdown| *lockdown <= begins) else { return Ok(begins) };
        Err(Refusal::new(RefusalCode::BadTime, format!("the lockdown scheduled for {lockdown:.0} ends it before it begins"))
            .hint("give it after that lockdown, or have it begin before; schedule.lockdown in the configuration says when they come"))
    }

    fn span(&self, asked: &Allow) -> Result<Duration, Refusal> {
        let bounds = &self.config.grants;
        let span = asked.duration.map_or(bounds.default_duration, Duration::from_secs);
        if span <= bounds.max_duration {
            return Ok(span);
        }
        let (asked, most) = (control::format_duration(span), control::format_duration(bounds.max_duration));
        Err(Refusal::new(RefusalCode::BadTime, format!("{asked} is longer than a grant may live"))
            .hint(format!("grants.max_duration is {most}: ask for that or less")))
    }

    fn new_grant(&mut self, asked: &Allow, terms: &Terms, asker: &Asker, now: Now) -> Grant {
        // `max_duration` bounds what a grant lets in for; one that begins later has that much from its beginning.
        Grant {
            id: self.new_grant_id(),
            person: terms.person.clone(),
            account: terms.account.clone(),
            uid: terms.uid,
            from: asked.from.clone(),
            reason: terms.reason.clone(),
            origin: Origin::Operator { actor: asker.actor.clone() },
            created_at: now.wall,
            starts_at: terms.starts_at,
            ends: terms.ends(now),
            ceiling: Deadline::after(terms.ahead(now).saturating_add(self.config.grants.max_duration), now),
            recorded: false,
            end: None,
        }
    }

    /// What is to be said beside the answer once the key store has been put right, or could not be.
    #[must_use]
    pub fn not_in_place_yet(&self, id: &GrantId) -> Option<String> {
        let grant = self.grants.get(id)?;
        let why = self.not_in_place(grant)?;
        Some(format!("{} cannot log in yet: the key is not in place, since {why}; it is tried again", grant.person))
    }

    /// What a person has to know who has other keys too, or needs more than one.
    fn which_keys(&self, grant: &Grant) -> Option<String> {
        let demand = self.required_of(&grant.account);
        let keys = self.config.people.get(&grant.person).map_or(&[][..], |entry| entry.keys.as_slice());
        let fit: Vec<String> =
            keys.iter().filter(|key| demand.takes(key)).map(|key| key.fingerprint().to_string()).collect();
        let by = match fit.len() == keys.len() {
            true => String::new(),
            false => format!(": by {}, and by no other key of theirs", fit.join(" or ")),
        };
        demand.is_more_than_a_key().then(|| format!("{} requires {demand}{by}", grant.account))
    }

    fn allowed(&self, asked: &Allow, terms: &Terms, grant: &Grant, before: Option<&Grant>, now: Now) -> AllowedAnswer {
        let mut notes = Vec::new();
        // By its ceiling, and not by the moment that the disk took.
        let bounded = grant.ends.remaining(now) < terms.ends(now).remaining(now)
            && grant.ceiling.remaining(now) <= grant.ends.remaining(now);
        let extended = before.is_some_and(|before| before.ends != grant.ends);
        let already_later = before.is_some() && !extended && !bounded;
        if before.is_some() && bounded {
            let most = control::format_duration(self.config.grants.max_duration);
            notes.push(format!(
                "grants.max_duration ({most}) counts from the grant's beginning and ends it earlier than asked"
            ));
        }
        notes.extend(self.which_keys(grant));
        if !self.enforces() {
            notes.push("this host only observes: the key is put in place once mode is \"enforce\"".to_owned());
        }
        let lockdown = self.next_lockdown().filter(|at| *at < grant.ends.wall);
        let ends = match lockdown {
            Some(at) => EffectiveEnd { at, cause: EndCause::ScheduledLockdown },
            None if already_later => EffectiveEnd { at: grant.ends.wall, cause: EndCause::AlreadyLater },
            None if asked.duration.is_none() => EffectiveEnd { at: grant.ends.wall, cause: EndCause::DefaultDuration },
            None => EffectiveEnd { at: grant.ends.wall, cause: EndCause::Asked },
        };
        AllowedAnswer { grant: grant_view(grant, now), extended, ends, notes }
    }
}

/// The same grant with a later end, never an earlier one, and never past its ceiling. Who gave it and why stays as it is.
fn extended(mut grant: Grant, terms: &Terms, now: Now) -> Grant {
    let asked = terms.ends(now).min(grant.ceiling);
    if asked.remaining(now) > grant.ends.remaining(now) {
        grant.ends = asked;
    }
    grant
}

/// The record of a grant given, or extended, by `asker` with their reason.
fn created(grant: &Grant, before: Option<&Grant>, asker: &Asker, reason: &str) -> Draft {
    let (person, account, until) = (&grant.person, &grant.account, grant.ends.wall);
    let said = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let sentence = match before {
        Some(_) => format!("{person}'s grant on {account} now lasts until {until:.0}{said}"),
        None => format!("{person} may log in to {account} until {until:.0}{said}"),
    };
    let mut draft = grant_created(grant, sentence).with("why", reason);
    if let Some(before) = before {
        draft = draft.with("extends", before.ends.wall.to_string());
    }
    draft.actor = Some(asker.actor.clone());
    draft
}

/// A `grant.created` record of this grant.
pub fn grant_created(grant: &Grant, sentence: String) -> Draft {
    let mut draft = Draft::new(ArtifactType::GrantCreated, sentence)
        .with("starts_at", grant.starts_at.to_string())
        .with("expires_at", grant.ends.wall.to_string())
        .with("why", grant.reason.as_str())
        .with("from", grant.from.iter().map(ToString::to_string).collect::<Vec<_>>());
    if let Origin::Config { place, .. } = &grant.origin {
        draft = draft.with("place", place.as_str());
    }
    draft.person = Some(grant.person.clone());
    draft.account = Some(grant.account.clone());
    draft.grant = Some(grant.id.clone());
    draft
}
