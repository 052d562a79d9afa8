//! Clients of the small broker, all at once: what each does takes several steps, between which the
//! others take theirs, and some of them are never answered.

use std::collections::BTreeMap;

use checker::history::{
    Action, Commit, Copies, Ends, Identity, Kind, Membership, Mop, Op, Polled, Reads, Recorder,
    Sends, Sent, Setup, Transaction, Which,
};

use super::broker::Broker;

const LOGS: [&str; 3] = ["a-0", "a-1", "b-0"];
const COMPACTED: [&str; 2] = ["c-0", "c-1"];
const FROM: &str = "in-0";
const TO: &str = "out-0";
const GROUP: &str = "g";
const COPIES: &str = "copies";

/// `SplitMix64`.
pub struct Random(pub u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % limit
    }

    fn pick<'t>(&mut self, items: &[&'t str]) -> &'t str {
        items[usize::try_from(self.below(items.len() as u64)).expect("an index")]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Sender,
    KeyedSender,
    Teller,
    Poller,
    Member,
    Looker,
    Copier,
}

/// What a client is about.
struct Doing {
    action: Action,
    /// How many of its steps are left.
    steps: usize,
    ends: Kind,
    transaction: u64,
}

struct Client {
    role: Role,
    process: u64,
    doing: Option<Doing>,
    positions: BTreeMap<String, i64>,
    identity: Option<Identity>,
    member: Option<Membership>,
}

/// A run of all of them.
pub struct Run {
    random: Random,
    broker: Broker,
    recorder: Recorder,
    clients: Vec<Client>,
    now: u64,
    numbers: u64,
}

/// A sound history of about so many operations.
pub fn history(seed: u64, ops: usize) -> Vec<Op> {
    let mut run = Run {
        random: Random(seed),
        broker: Broker::default(),
        recorder: Recorder::default(),
        clients: Vec::new(),
        now: 0,
        numbers: 0,
    };
    run.set_up();
    while run.recorder.ops().len() < ops {
        let at = usize::try_from(run.random.below(run.clients.len() as u64)).expect("an index");
        let mut client = run.clients.swap_remove(at);
        run.step(&mut client);
        run.clients.push(client);
        if run.random.below(50) == 0 {
            COMPACTED.into_iter().for_each(|log| run.broker.compact(log));
        }
    }
    run.finish();
    run.recorder.ops().to_vec()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Run {
    fn set_up(&mut self) {
        let copies =
            Copies { group: COPIES.to_owned(), from: strings(&[FROM]), to: strings(&[TO]) };
        self.note(
            0,
            Kind::Info,
            Action::Setup(Setup {
                idempotent: true,
                partitions: strings(&LOGS),
                groups: strings(&[GROUP]),
                compacted: strings(&COMPACTED),
                delete_retention_ms: 1_000_000,
                copies: vec![copies],
            }),
        );
        use Role::{Copier, KeyedSender, Looker, Member, Poller, Sender, Teller};
        let roles = [
            Sender,
            Sender,
            KeyedSender,
            Teller,
            Teller,
            Poller,
            Poller,
            Member,
            Member,
            Looker,
            Looker,
            Copier,
        ];
        for (process, role) in (1..).zip(roles) {
            let (positions, doing) = (BTreeMap::new(), None);
            let client = Client { role, process, doing, positions, identity: None, member: None };
            self.clients.push(client);
        }
    }

    fn note(&mut self, process: u64, kind: Kind, action: Action) {
        self.now += 1 + self.random.below(1000);
        self.recorder.note(process, self.now, kind, action);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn step(&mut self, client: &mut Client) {
        let Some(mut doing) = client.doing.take() else {
            let doing = self.begin(client);
            self.note(client.process, Kind::Invoke, doing.action.clone());
            client.doing = Some(doing);
            return;
        };
        if self.random.below(300) == 0 {
            // It forgets everything; its transaction is aborted when it comes back.
            self.broker.end(doing.transaction, false);
            self.note(client.process, Kind::Info, Action::Crash);
            (client.identity, client.member) = (None, None);
            client.positions.clear();
        } else if doing.steps > 0 {
            self.act(client, &mut doing);
            doing.steps -= 1;
            client.doing = Some(doing);
        } else {
            self.complete(client, doing);
        }
    }

    fn begin(&mut self, client: &Client) -> Doing {
        let ends = match self.random.below(10) {
            0 => Kind::Fail,
            1 => Kind::Info,
            _ => Kind::Ok,
        };
        let transaction = self.number();
        let action = match client.role {
            Role::Sender | Role::KeyedSender => self.sends(client),
            Role::Teller | Role::Copier => self.transaction(client),
            Role::Poller if client.positions.is_empty() || self.random.below(20) == 0 => {
                let logs = [LOGS[0], LOGS[1], LOGS[2], COMPACTED[0], COMPACTED[1]];
                Action::Assign(logs.map(|log| (log.to_owned(), 0)).into())
            }
            Role::Poller => Action::Poll(Polled::default()),
            Role::Member => self.membership(client),
            Role::Looker if self.random.below(3) == 0 => {
                Action::OffsetFetch(Commit { group: GROUP.to_owned(), ..Commit::default() })
            }
            Role::Looker => {
                let which = [Which::Start, Which::End, Which::Stable];
                let which = which[usize::try_from(self.random.below(3)).expect("small")];
                Action::ListOffsets(Ends { which, offsets: BTreeMap::new() })
            }
        };
        let steps = if let Action::Txn(transaction) = &action { transaction.mops.len() } else { 1 };
        Doing { action, steps, ends, transaction }
    }

    fn sent(&mut self, partition: &str) -> Sent {
        let value = Some(format!("v{}", self.number()));
        Sent { partition: partition.to_owned(), value, ..Sent::default() }
    }

    fn sends(&mut self, client: &Client) -> Action {
        let mut sent = Vec::new();
        for _ in 0..=self.random.below(3) {
            if client.role == Role::Sender {
                let log = self.random.pick(&[LOGS[0], LOGS[1], LOGS[2], FROM]);
                sent.push(self.sent(log));
            } else {
                let log = self.random.pick(&COMPACTED);
                let mut one = self.sent(log);
                one.key = Some(format!("k{}", self.random.below(4)));
                one.value.take_if(|_| self.random.below(7) == 0);
                sent.push(one);
            }
        }
        Action::Send(Sends { producer: None, sent })
    }

    fn transaction(&mut self, client: &Client) -> Action {
        let Some(identity) = &client.identity else { return Action::InitPid(Identity::default()) };
        let mut mops = Vec::new();
        if client.role == Role::Copier {
            let key = (COPIES.to_owned(), FROM.to_owned());
            let from = self.broker.offsets.get(&key).map_or(0, |(position, _)| *position);
            if client.positions.get(FROM) != Some(&from) {
                return Action::Assign([(FROM.to_owned(), from)].into());
            }
            let (reads, next) = self.broker.read(FROM, from, 3);
            for read in &reads {
                let copy_of = read.value.clone();
                mops.push(Mop::Send(Sent { copy_of, ..self.sent(TO) }));
            }
            mops.insert(0, Mop::Poll([(FROM.to_owned(), reads)].into()));
            let offsets = [(FROM.to_owned(), (next, format!("w{}", self.number())))].into();
            let commit = Commit { group: COPIES.to_owned(), generation: None, offsets };
            let producer = Some(identity.clone());
            let offsets = Some(commit);
            return Action::Txn(Transaction { producer, mops, offsets, ..Default::default() });
        }
        for _ in 0..=self.random.below(4) {
            let log = self.random.pick(&LOGS);
            mops.push(Mop::Send(self.sent(log)));
        }
        let producer = Some(identity.clone());
        Action::Txn(Transaction { producer, mops, ..Transaction::default() })
    }

    fn membership(&mut self, client: &Client) -> Action {
        let Some(member) = client.member.clone().filter(|_| self.random.below(12) > 0) else {
            return Action::Subscribe(Membership::default());
        };
        if self.random.below(2) == 0 {
            return Action::Poll(Polled { member: Some(member), ..Polled::default() });
        }
        let mut offsets = BTreeMap::new();
        for partition in &member.partitions {
            let offset = self.random.below(100).try_into().expect("small");
            offsets.insert(partition.clone(), (offset, format!("w{}", self.number())));
        }
        let generation = Some(member.generation);
        Action::Commit(Commit { group: GROUP.to_owned(), generation, offsets })
    }

    /// What the broker does of it.
    fn act(&mut self, client: &mut Client, doing: &mut Doing) {
        let happens = match doing.ends {
            Kind::Ok | Kind::Invoke => true,
            Kind::Fail => false,
            Kind::Info => self.random.below(2) == 0,
        };
        let broker = &mut self.broker;
        match &mut doing.action {
            Action::Send(sends) => {
                for sent in sends.sent.iter_mut().filter(|_| happens) {
                    let offset =
                        broker.append(&sent.partition, sent.value.clone(), sent.key.clone(), None);
                    sent.offset = (doing.ends == Kind::Ok).then_some(offset);
                }
            }
            Action::Poll(polled) => poll(broker, client, polled),
            Action::Txn(transaction) => {
                let at = transaction.mops.len() - doing.steps;
                if let Mop::Send(sent) = &mut transaction.mops[at] {
                    let (value, number) = (sent.value.clone(), doing.transaction);
                    sent.offset = Some(broker.append(&sent.partition, value, None, Some(number)));
                }
                if doing.steps == 1 {
                    let asked = (doing.ends != Kind::Fail).then_some(self.now);
                    (transaction.first_asked_ns, transaction.last_asked_ns) = (asked, asked);
                    broker.end(doing.transaction, happens);
                    if let Some(commit) = transaction.offsets.as_ref().filter(|_| happens) {
                        keep(broker, commit);
                    }
                }
            }
            Action::Subscribe(member) => {
                let generation = client.member.as_ref().map_or(-1, |member| member.generation);
                broker.join(client.process, generation, &strings(&LOGS));
                *member = Membership {
                    group: GROUP.to_owned(),
                    generation: broker.group.generation,
                    member: client.process.to_string(),
                    partitions: broker.group.assigned[&client.process].clone(),
                };
            }
            Action::Commit(commit) if commit.generation != Some(broker.group.generation) => {
                doing.ends = Kind::Fail;
            }
            Action::Commit(commit) if happens => keep(broker, commit),
            Action::OffsetFetch(read) => {
                for log in LOGS {
                    let key = (GROUP.to_owned(), log.to_owned());
                    let found = broker.offsets.get(&key).cloned();
                    read.offsets.insert(log.to_owned(), found.unwrap_or((-1, String::new())));
                }
            }
            Action::ListOffsets(ends) => {
                for log in LOGS {
                    let offset = match ends.which {
                        Which::Start => 0,
                        Which::End => broker.end_of(log),
                        Which::Stable => broker.stable(log),
                    };
                    ends.offsets.insert(log.to_owned(), offset);
                }
            }
            Action::InitPid(identity) => *identity = broker.take(&format!("t{}", client.process)),
            _ => {}
        }
    }

    fn complete(&mut self, client: &mut Client, doing: Doing) {
        let is_ok = doing.ends == Kind::Ok;
        match &doing.action {
            Action::Assign(from) if is_ok => client.positions.clone_from(from),
            Action::Subscribe(member) if is_ok => {
                client.member = Some(member.clone());
                client.positions.clear();
            }
            Action::InitPid(identity) if is_ok => client.identity = Some(identity.clone()),
            Action::Txn(transaction) if is_ok => {
                let offsets = transaction.offsets.iter().flat_map(|commit| &commit.offsets);
                let position = |(log, (offset, _)): (&String, &(i64, _))| (log.clone(), *offset);
                client.positions = offsets.map(position).collect();
                // The end of a transaction raises the epoch.
                let name = format!("t{}", client.process);
                client.identity = Some(self.broker.take(&name));
            }
            // Its client has lost its place, and comes again.
            Action::Txn(_) => {
                client.identity = None;
                client.positions.clear();
            }
            Action::Poll(_) if doing.ends != Kind::Ok => client.positions.clear(),
            _ => {}
        }
        // Who is not answered has been told nothing.
        let action = match doing.action {
            Action::Poll(_) if !is_ok => Action::Poll(Polled::default()),
            other => other,
        };
        self.note(client.process, doing.ends, action);
    }

    /// All that is under way ends, then everything is read.
    fn finish(&mut self) {
        for mut client in std::mem::take(&mut self.clients) {
            while client.doing.is_some() {
                self.step(&mut client);
            }
        }
        self.note(0, Kind::Info, Action::Nemesis("heal".to_owned()));
        for log in LOGS {
            let mut sent = self.sent(log);
            self.call(
                100,
                Action::Send(Sends { producer: None, sent: vec![sent.clone()] }),
                |run| {
                    sent.offset = Some(run.broker.append(log, sent.value.clone(), None, None));
                    Action::Send(Sends { producer: None, sent: vec![sent] })
                },
            );
        }
        self.call(101, Action::Subscribe(Membership::default()), |run| {
            run.broker.join(101, -1, &strings(&LOGS));
            let generation = run.broker.group.generation;
            let (group, member) = (GROUP.to_owned(), "101".to_owned());
            Action::Subscribe(Membership { group, generation, member, partitions: Vec::new() })
        });
        self.note(0, Kind::Info, Action::Final);
        let asked = Commit { group: COPIES.to_owned(), ..Commit::default() };
        self.call(102, Action::OffsetFetch(asked.clone()), |run| {
            let key = (COPIES.to_owned(), FROM.to_owned());
            let mut read = asked;
            let found = run.broker.offsets.get(&key).cloned().unwrap_or((-1, String::new()));
            read.offsets.insert(FROM.to_owned(), found);
            Action::OffsetFetch(read)
        });
        for log in LOGS.into_iter().chain(COMPACTED).chain([FROM, TO]) {
            self.call(103, Action::Poll(Polled::default()), |run| {
                let (records, _) = run.broker.read(log, 0, usize::MAX);
                let reads: Reads = [(log.to_owned(), records)].into();
                Action::Poll(Polled { reads, member: None })
            });
        }
    }

    fn call(&mut self, process: u64, asked: Action, told: impl FnOnce(&mut Run) -> Action) {
        self.note(process, Kind::Invoke, asked);
        let told = told(self);
        self.note(process, Kind::Ok, told);
    }
}

fn keep(broker: &mut Broker, commit: &Commit) {
    for (partition, found) in &commit.offsets {
        broker.offsets.insert((commit.group.clone(), partition.clone()), found.clone());
    }
}

/// Reads on from where the client is; a member begins where it likes.
fn poll(broker: &Broker, client: &mut Client, polled: &mut Polled) {
    let logs = match &polled.member {
        Some(member) => member.partitions.clone(),
        None => client.positions.keys().cloned().collect(),
    };
    for log in logs {
        let position = client.positions.entry(log.clone()).or_default();
        let (records, next) = broker.read(&log, *position, 5);
        *position = next;
        if !records.is_empty() {
            polled.reads.insert(log, records);
        }
    }
}
