//! A history by call, by value and by log: what all rules look things up in.

use std::borrow::Cow;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::history::{Action, Error, Identity, Kind, Mop, Op, Read, Reads, Sent, Setup};

/// An index into [`Facts::calls`].
pub(crate) type CallId = usize;
/// An index into [`Facts::values`].
pub(crate) type ValueId = usize;
/// An index into [`Facts::logs`].
pub(crate) type LogId = usize;

/// An operation from its begin to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'h> {
    pub(crate) begun: &'h Op,
    /// `None`: the process went on without an answer.
    pub(crate) ended: Option<&'h Op>,
}

impl<'h> Call<'h> {
    /// All that is known of it.
    pub(crate) fn action(&self) -> &'h Action {
        &self.ended.unwrap_or(self.begun).action
    }

    pub(crate) fn outcome(&self) -> Kind {
        self.ended.map_or(Kind::Info, |op| op.kind)
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.outcome() == Kind::Ok
    }

    /// The number to tell people.
    pub(crate) fn index(&self) -> u64 {
        self.ended.unwrap_or(self.begun).index
    }

    pub(crate) fn begun_ns(&self) -> u64 {
        self.begun.time_ns
    }

    /// The end of time for what has no end.
    pub(crate) fn ended_ns(&self) -> u64 {
        self.ended.map_or(u64::MAX, |op| op.time_ns)
    }
}

/// A value: who sent it, and where it was seen.
#[derive(Debug)]
pub(crate) struct Value<'h> {
    pub(crate) name: Cow<'h, str>,
    pub(crate) log: LogId,
    pub(crate) key: Option<&'h str>,
    pub(crate) writer: Option<CallId>,
    pub(crate) sent: Option<&'h Sent>,
    /// Where the broker said that it is.
    pub(crate) acked: Option<i64>,
    /// The first offset at which it was read, by number.
    pub(crate) read: Option<i64>,
    pub(crate) reader: Option<CallId>,
    pub(crate) is_in_final: bool,
}

/// A record as a call polled it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolledRecord {
    pub(crate) call: CallId,
    pub(crate) log: LogId,
    pub(crate) offset: i64,
    pub(crate) value: ValueId,
}

/// A value as a call sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRecord {
    pub(crate) call: CallId,
    pub(crate) value: ValueId,
}

/// What is known of a partition.
#[derive(Debug)]
pub(crate) struct Log<'h> {
    pub(crate) name: &'h str,
    pub(crate) is_compacted: bool,
    /// What lies where, by offset: of acknowledged writes that took effect, and of all reads.
    pub(crate) known: Vec<(i64, ValueId)>,
    /// Offsets at which anybody has read what was not aborted: what others have to read, too.
    pub(crate) read: Vec<i64>,
    /// Somebody has read it in the final phase.
    pub(crate) is_drained: bool,
}

/// The history, looked through once.
pub(crate) struct Facts<'h> {
    pub(crate) setup: Setup,
    pub(crate) calls: Vec<Call<'h>>,
    pub(crate) values: Vec<Value<'h>>,
    pub(crate) logs: Vec<Log<'h>>,
    /// In the order of the calls' begins, and within a call in its own.
    pub(crate) reads: Vec<PolledRecord>,
    pub(crate) sends: Vec<SentRecord>,
    pub(crate) final_index: Option<u64>,
    pub(crate) healed_ns: Option<u64>,
    /// When the history ends.
    pub(crate) end_ns: u64,
    value_ids: HashMap<Cow<'h, str>, ValueId, FixedState>,
    log_ids: HashMap<&'h str, LogId, FixedState>,
}

impl<'h> Facts<'h> {
    pub(crate) fn of(ops: &'h [Op]) -> Result<Facts<'h>, Error> {
        let mut facts = Facts {
            setup: Setup::default(),
            calls: Vec::new(),
            values: Vec::new(),
            logs: Vec::new(),
            reads: Vec::new(),
            sends: Vec::new(),
            final_index: None,
            healed_ns: None,
            end_ns: ops.last().map_or(0, |op| op.time_ns),
            value_ids: HashMap::default(),
            log_ids: HashMap::default(),
        };
        facts.pair(ops)?;
        for id in 0..facts.calls.len() {
            facts.note_call(id);
        }
        facts.fill_logs();
        Ok(facts)
    }

    pub(crate) fn log_id(&self, partition: &str) -> Option<LogId> {
        self.log_ids.get(partition).copied()
    }

    /// Whether a call began in the final phase.
    pub(crate) fn is_final(&self, call: CallId) -> bool {
        self.final_index.is_some_and(|index| self.calls[call].begun.index > index)
    }

    /// Finds the end of each call.
    fn pair(&mut self, ops: &'h [Op]) -> Result<(), Error> {
        let mut open: HashMap<u64, CallId, FixedState> = HashMap::default();
        let mut last: Option<&Op> = None;
        for op in ops {
            if last.is_some_and(|last| last.index >= op.index || last.time_ns > op.time_ns) {
                return Err(Error::OutOfOrder(op.index));
            }
            last = Some(op);
            match &op.action {
                Action::Setup(setup) => self.setup = setup.clone(),
                Action::Final => self.final_index = Some(op.index),
                Action::Nemesis(what) if what == "heal" => self.healed_ns = Some(op.time_ns),
                Action::Nemesis(_) => {}
                Action::Crash => drop(open.remove(&op.process)),
                Action::Assign(_)
                | Action::Subscribe(_)
                | Action::Send(_)
                | Action::Poll(_)
                | Action::Txn(_)
                | Action::Commit(_)
                | Action::OffsetFetch(_)
                | Action::ListOffsets(_)
                | Action::InitPid(_) => {
                    if op.kind == Kind::Invoke {
                        open.insert(op.process, self.calls.len());
                        self.calls.push(Call { begun: op, ended: None });
                    } else {
                        let call = open.remove(&op.process);
                        let call = call.ok_or(Error::NoInvocation(op.index))?;
                        self.calls[call].ended = Some(op);
                    }
                }
            }
        }
        Ok(())
    }

    fn note_call(&mut self, id: CallId) {
        let call = self.calls[id];
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others carry no records")]
        match call.action() {
            Action::Send(sends) => sends.sent.iter().for_each(|sent| self.note_sent(id, sent)),
            Action::Poll(polled) => self.note_reads(id, &polled.reads),
            Action::Txn(transaction) => {
                for mop in &transaction.mops {
                    match mop {
                        Mop::Send(sent) => self.note_sent(id, sent),
                        Mop::Poll(reads) => self.note_reads(id, reads),
                    }
                }
            }
            _ => {}
        }
    }

    fn note_sent(&mut self, call: CallId, sent: &'h Sent) {
        let log = self.log(&sent.partition);
        let place = sent.offset.map(|offset| (sent.partition.as_str(), offset));
        let Some(name) = name_of(sent.value.as_ref(), sent.key.as_ref(), place) else { return };
        let value = self.value(log, name);
        let known = &mut self.values[value];
        // A value that was sent to one partition and read from another stays the first one's.
        known.log = log;
        known.key = sent.key.as_deref();
        known.writer = Some(call);
        known.sent = Some(sent);
        known.acked = sent.offset;
        self.sends.push(SentRecord { call, value });
    }

    fn note_reads(&mut self, call: CallId, reads: &'h Reads) {
        let is_final = self.is_final(call);
        for (partition, records) in reads {
            let log = self.log(partition);
            self.logs[log].is_drained |= is_final;
            for Read { offset, value, key } in records {
                let place = Some((partition.as_str(), *offset));
                let name = name_of(value.as_ref(), key.as_ref(), place);
                let value = self.value(log, name.expect("it has an offset"));
                let known = &mut self.values[value];
                known.is_in_final |= is_final;
                known.key = known.key.or(key.as_deref());
                known.reader = known.reader.or(Some(call));
                known.read = Some(known.read.map_or(*offset, |first| first.min(*offset)));
                self.reads.push(PolledRecord { call, log, offset: *offset, value });
            }
        }
    }

    fn log(&mut self, partition: &'h str) -> LogId {
        let next = self.logs.len();
        let id = *self.log_ids.entry(partition).or_insert(next);
        if id == next {
            let is_compacted = self.setup.compacted.iter().any(|one| one == partition);
            let (known, read) = (Vec::new(), Vec::new());
            let log = Log { name: partition, is_compacted, known, read, is_drained: false };
            self.logs.push(log);
        }
        id
    }

    fn value(&mut self, log: LogId, name: Cow<'h, str>) -> ValueId {
        let next = self.values.len();
        let id = *self.value_ids.entry(name.clone()).or_insert(next);
        if id == next {
            self.values.push(Value {
                name,
                log,
                key: None,
                writer: None,
                sent: None,
                acked: None,
                read: None,
                reader: None,
                is_in_final: false,
            });
        }
        id
    }

    /// Fills what is known of each log, when all values are.
    fn fill_logs(&mut self) {
        let mut was_read = vec![false; self.calls.len()];
        for value in self.values.iter().filter(|value| value.read.is_some()) {
            if let Some(writer) = value.writer {
                was_read[writer] = true;
            }
        }
        for (id, value) in self.values.iter().enumerate() {
            let (Some(writer), Some(offset)) = (value.writer, value.acked) else { continue };
            let call = &self.calls[writer];
            let is_there = match call.outcome() {
                Kind::Ok => true,
                Kind::Info | Kind::Invoke => was_read[writer],
                Kind::Fail => false,
            };
            if is_there {
                self.logs[value.log].known.push((offset, id));
            }
        }
        for read in &self.reads {
            self.logs[read.log].known.push((read.offset, read.value));
            let writer = self.values[read.value].writer.map(|writer| self.calls[writer]);
            if writer.is_some_and(|writer| writer.outcome() != Kind::Fail) {
                self.logs[read.log].read.push(read.offset);
            }
        }
        for log in &mut self.logs {
            log.known.sort_unstable();
            log.known.dedup();
            log.read.sort_unstable();
            log.read.dedup();
        }
    }
}

/// What a record is known by. A tombstone has no value: its key and place have to do, if it has a
/// place.
fn name_of<'h>(
    value: Option<&'h String>,
    key: Option<&'h String>,
    place: Option<(&str, i64)>,
) -> Option<Cow<'h, str>> {
    if let Some(value) = value {
        return Some(Cow::Borrowed(value));
    }
    let key = key.map_or("", String::as_str);
    let (partition, offset) = place?;
    Some(Cow::Owned(format!("tombstone of {key} at {partition} {offset}")))
}

/// Who sent, if it is known.
pub(crate) fn producer_of(action: &Action) -> Option<&Identity> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have no producer")]
    match action {
        Action::Send(sends) => sends.producer.as_ref(),
        Action::Txn(transaction) => transaction.producer.as_ref(),
        _ => None,
    }
}
