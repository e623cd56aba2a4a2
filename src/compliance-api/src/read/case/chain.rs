//! One ledger of a case, part after part.

use ::case::{About, LedgerEntry, MAX_PART, Member, Range, Run, Timeline, Writer};
use record::{Hash, checkpoint::HeadProof};

use super::{
    Wanted,
    chosen::{Chosen, keys},
    found::Findings,
};
use crate::store::{
    Error, Tx,
    artifacts::{By, Found, Place, Stretch},
    micros,
};

/// Rows that one step looks at.
const LOOK_AT: usize = 256;

/// A ledger that is being read.
pub(super) struct Walking {
    chosen: Chosen,
    /// The last number that was looked at, and the last one to look at.
    at: u64,
    last: u64,
    lines: Vec<u8>,
    /// Of a chain that the server keeps: what its lines are over.
    data: Vec<u8>,
    /// Where the last line begins.
    line_at: usize,
    /// The numbers of what is in `lines`.
    part: Option<Range>,
    run: Option<Run>,
    runs: Vec<Run>,
    /// How many records between two runs may not be shown.
    hidden: u64,
    timeline: Timeline,
}

impl Walking {
    pub(super) fn begin(
        tx: &mut dyn Tx,
        chosen: Chosen,
        (first, last): (u64, u64),
        proof: Option<HeadProof>,
        writer: &mut Writer,
    ) -> Result<Self, Error> {
        let about = About {
            ledger: chosen.id.clone(),
            kind: chosen.kind.as_str().to_owned(),
            name: chosen.name.clone(),
            keys: if chosen.is_host() { keys(tx, &chosen)? } else { Vec::new() },
        };
        let text = serde_json::to_vec(&about).map_err(|error| Error::Unsound(format!("a ledger's keys: {error}")))?;
        writer.add(&Member::Ledger(chosen.id.clone()), &text);
        // Both name a record that may be of another stack, where its newest ones are.
        let proof = proof.filter(|_| chosen.is_theirs);
        let receipt = if chosen.is_theirs { tx.last_receipt((chosen.row, &chosen.id), last)? } else { Vec::new() };
        writer.add(&Member::Receipts(chosen.id.clone()), &receipt);
        if let Some(proof) = proof {
            writer.add(&Member::Proof(chosen.id.clone()), proof.text().as_bytes());
        }
        Ok(Self {
            at: first - 1,
            last,
            lines: Vec::new(),
            data: Vec::new(),
            line_at: 0,
            part: None,
            run: None,
            runs: Vec::new(),
            hidden: 0,
            timeline: Timeline::new(chosen.id.clone(), chosen.kind.as_str(), &chosen.name),
            chosen,
        })
    }

    /// Goes on a little. Whether there may be more.
    pub(super) fn step(
        &mut self,
        tx: &mut dyn Tx,
        wanted: &Wanted,
        newest: i64,
        writer: &mut Writer,
        found: &mut Findings,
    ) -> Result<bool, Error> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let after = Place { at: number(self.at), id: i64::MAX };
        let stretch = Stretch { after, before: number(self.last).saturating_add(1), newest, most: LOOK_AT };
        let places = tx.places(&By::Seq(self.chosen.row), stretch)?;
        for place in &places {
            tx.look(place.id, &mut |row| self.row(row, wanted, writer, found))?;
        }
        if places.len() == LOOK_AT {
            return Ok(true);
        }
        self.end_run(writer);
        if let Some((member, page)) = self.timeline.page() {
            writer.add(&member, page.as_bytes());
        }
        Ok(false)
    }

    fn row(&mut self, row: &Found<'_>, wanted: &Wanted, writer: &mut Writer, found: &mut Findings) {
        let seq = u64::try_from(row.seq).unwrap_or_default();
        let follows = seq == self.at + 1;
        self.at = seq;
        let is_shown = wanted.stack.as_ref().is_none_or(|stack| stack.as_str() == row.stack)
            && wanted.shown.from.is_none_or(|from| row.time >= micros(from))
            && wanted.shown.to.is_none_or(|to| row.time < micros(to));
        if !follows || !is_shown {
            self.end_run(writer);
        }
        if !is_shown {
            self.hidden += 1;
            return;
        }
        self.add(seq, row);
        if let Some(line) = found.see(row)
            && let Some((member, page)) = self.timeline.row(&line)
        {
            writer.add(&member, page.as_bytes());
        }
        if self.lines.len().max(self.data.len()) >= MAX_PART {
            self.end_part(writer);
        }
    }

    fn add(&mut self, seq: u64, row: &Found<'_>) {
        self.line_at = self.lines.len();
        match row.entry {
            Some(entry) => {
                self.lines.extend_from_slice(entry);
                self.data.extend_from_slice(row.bytes);
                self.data.push(b'\n');
            }
            None => self.lines.extend_from_slice(row.bytes),
        }
        self.lines.push(b'\n');
        self.part = Some(Range { first: self.part.map_or(seq, |part| part.first), last: seq });
    }

    fn end_part(&mut self, writer: &mut Writer) {
        let Some(part) = self.part.take() else { return };
        let hash = Hash::of(&self.lines[self.line_at..]);
        self.run = Some(Run { first: self.run.map_or(part.first, |run| run.first), last: part.last, hash });
        let id = self.chosen.id.clone();
        if self.chosen.is_host() {
            writer.add(&Member::Records(id, part), &self.lines);
        } else {
            writer.add(&Member::Entries(id.clone(), part), &self.lines);
            writer.add(&Member::Data(id, part), &self.data);
        }
        self.lines.clear();
        self.data.clear();
    }

    fn end_run(&mut self, writer: &mut Writer) {
        self.end_part(writer);
        self.runs.extend(self.run.take());
    }

    /// What the manifest says of it, how many pages it has, and what of it is missing.
    pub(super) fn end(self) -> (LedgerEntry, u32, Vec<String>) {
        let Chosen { id, kind, name, stands, .. } = self.chosen;
        let mut missing = Vec::new();
        for (before, after) in self.runs.iter().zip(self.runs.iter().skip(1)) {
            let (from, to) = (before.last + 1, after.first - 1);
            missing.push(format!(
                "Ledger {id} of {name}: records {from} to {to} are not in this case: never received, or not for whoever asked."
            ));
        }
        if self.runs.is_empty() {
            missing.push(format!(
                "Ledger {id} of {name}: none of its {} records in the window is for whoever asked.",
                self.hidden
            ));
        }
        let entry = LedgerEntry { ledger: id, kind: kind.as_str().to_owned(), name, stands, runs: self.runs };
        (entry, self.timeline.pages(), missing)
    }
}
