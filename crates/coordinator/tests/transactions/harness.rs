//! A coordinator with its log, its clock and its clients, for tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coordinator::transactions::{
    EndRequest, Markers, Outcome, Partitions, ProducerIdentity, TransactionActions,
    TransactionCoordinator, TransactionDescription, TransactionFilter, TransactionResponse,
    TransactionSettings,
};
use coordinator::{Now, Token, Write, WriteError};
use model::record_batch::{BatchOptions, NewRecord, RecordBatch, RecordBatchBuilder};
use model::{ErrorCode, ProducerEpoch, ProducerId, TimestampMs};

/// The wall clock when the monotonic one is 0.
const EPOCH_MS: i64 = 1_700_000_000_000;
pub const TIMEOUT_MS: i32 = 60_000;

pub type Identity = Result<ProducerIdentity, ErrorCode>;

/// A write in the log that is not durable yet.
pub struct Appended {
    pub write: Write,
    /// The coordinator wants to hear no more of it.
    pub is_told: bool,
}

pub struct Harness {
    pub coordinator: TransactionCoordinator,
    pub settings: TransactionSettings,
    pub now_ms: u64,
    /// The batches of the partition.
    pub log: Vec<bytes::Bytes>,
    pub writes: VecDeque<Appended>,
    /// The log takes nothing: what is written to it fails at once, and is told of later.
    pub is_full: bool,
    /// Those whose completion was lost from the log after it held.
    pub lost: BTreeSet<String>,
    pub markers: Vec<Markers>,
    pub responses: BTreeMap<Token, TransactionResponse>,
    next_token: u64,
    next_producer_id: i64,
}

pub fn identity(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

fn batch_of(write: &Write) -> bytes::Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions::default());
    for record in &write.records {
        let (key, value) = (Some(&record.key[..]), record.value.as_deref());
        builder.append(&NewRecord { timestamp: TimestampMs(0), key, value, headers: &[] });
    }
    builder.build()
}

/// The transactional ids that a write is about: what follows a version and a length.
fn ids_of(write: &Write) -> Vec<String> {
    let names = write.records.iter().map(|record| record.key[4..].to_vec());
    names.map(|name| String::from_utf8(name).expect("so the schedule goes")).collect()
}

pub fn partitions(of_t: &[i32]) -> Partitions {
    [("t".to_owned(), of_t.iter().copied().collect())].into_iter().collect()
}

impl Harness {
    pub fn new(transaction_version: i16) -> Harness {
        let settings = TransactionSettings { transaction_version, ..Default::default() };
        Harness {
            coordinator: TransactionCoordinator::new(settings.clone()),
            settings,
            now_ms: 0,
            log: Vec::new(),
            writes: VecDeque::new(),
            is_full: false,
            lost: BTreeSet::new(),
            markers: Vec::new(),
            responses: BTreeMap::new(),
            next_token: 0,
            next_producer_id: 1000,
        }
    }

    pub fn now(&self) -> Now {
        let wall =
            TimestampMs(EPOCH_MS + i64::try_from(self.now_ms).expect("so the schedule goes"));
        Now { wall, monotonic_ms: self.now_ms }
    }

    fn carry_out(&mut self, actions: TransactionActions) {
        for (token, response) in actions.responses {
            assert!(self.responses.insert(token, response).is_none(), "{token:?} answered twice");
        }
        for write in actions.writes {
            let is_told = !self.is_full && self.coordinator.write_appended(write.id);
            self.writes.push_back(Appended { write, is_told });
        }
        self.markers.extend(actions.markers);
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Asks, and again once the coordinator has the producer id that it lacked.
    fn ask(
        &mut self,
        ask: impl Fn(&mut TransactionCoordinator, Token, Now) -> TransactionActions,
    ) -> Token {
        loop {
            let (token, now) = (self.token(), self.now());
            let actions = ask(&mut self.coordinator, token, now);
            let lacks = TransactionResponse::Identity(Err(ErrorCode::CoordinatorLoadInProgress));
            if actions.responses == [(token, lacks)] && self.coordinator.is_short_of_producer_ids()
            {
                self.coordinator.give_producer_id(ProducerId(self.next_producer_id));
                self.next_producer_id += 1;
                continue;
            }
            self.carry_out(actions);
            return token;
        }
    }

    pub fn ask_init(
        &mut self,
        id: &str,
        timeout_ms: i32,
        expected: Option<ProducerIdentity>,
    ) -> Token {
        self.ask(|coordinator, token, now| {
            coordinator.init_producer_id(token, id, timeout_ms, expected, now)
        })
    }

    pub fn ask_add(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        of_t: &[i32],
        client_version: i16,
    ) -> Token {
        let (token, now) = (self.token(), self.now());
        let added = partitions(of_t);
        let actions =
            self.coordinator.add_partitions(token, id, producer, &added, client_version, now);
        self.carry_out(actions);
        token
    }

    pub fn ask_end(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        outcome: Outcome,
        client_version: i16,
    ) -> Token {
        let request = EndRequest { transactional_id: id, producer, outcome, client_version };
        self.ask(|coordinator, token, now| coordinator.end(token, &request, now))
    }

    /// The oldest write is durable, or it is not and everything behind it is not, either.
    pub fn finish_write(&mut self, result: Result<(), WriteError>) -> bool {
        let Some(Appended { write, is_told }) = self.writes.pop_front() else { return false };
        let behind = if result.is_ok() { 0 } else { self.writes.len() };
        if result.is_ok() {
            self.log.push(batch_of(&write));
            for id in ids_of(&write) {
                self.lost.remove(&id);
            }
        } else if is_told {
            self.lost.extend(ids_of(&write));
        }
        if !is_told {
            let actions = self.coordinator.write_done(write.id, result, self.now());
            self.carry_out(actions);
        }
        for _ in 0..behind {
            self.finish_write(result);
        }
        true
    }

    /// What the log says when all that it has becomes durable.
    pub fn replayed_to_its_end(&self) -> TransactionCoordinator {
        let mut coordinator = self.replayed();
        for Appended { write, .. } in self.writes.iter().filter(|one| one.is_told) {
            let bytes = batch_of(write);
            let batch = RecordBatch::first(&bytes).expect("so the schedule goes");
            assert_eq!(coordinator.replay_batch(&batch), Ok(Vec::new()));
        }
        coordinator
    }

    /// The oldest markers are written everywhere.
    pub fn finish_markers(&mut self) -> Option<Markers> {
        if self.markers.is_empty() {
            return None;
        }
        let markers = self.markers.remove(0);
        let now = self.now();
        let actions = self.coordinator.markers_written(&markers.transactional_id, now);
        self.carry_out(actions);
        Some(markers)
    }

    /// Everything under way succeeds.
    pub fn settle(&mut self) -> Vec<Markers> {
        let mut written = Vec::new();
        loop {
            while self.finish_write(Ok(())) {}
            match self.finish_markers() {
                Some(markers) => written.push(markers),
                None => return written,
            }
        }
    }

    pub fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        if self.coordinator.is_short_of_producer_ids() {
            self.coordinator.give_producer_id(ProducerId(self.next_producer_id));
            self.next_producer_id += 1;
        }
        if self.coordinator.next_deadline().is_some_and(|deadline| deadline <= self.now_ms) {
            let actions = self.coordinator.on_time(self.now());
            self.carry_out(actions);
            let next = self.coordinator.next_deadline();
            assert!(next.is_none_or(|next| next > self.now_ms), "a deadline that is over");
        }
    }

    /// What the log alone says.
    pub fn replayed(&self) -> TransactionCoordinator {
        let mut coordinator = TransactionCoordinator::new(self.settings.clone());
        for bytes in &self.log {
            let skipped =
                coordinator.replay_batch(&RecordBatch::first(bytes).expect("so the schedule goes"));
            assert_eq!(skipped, Ok(Vec::new()));
        }
        coordinator
    }

    /// The broker dies and comes back: who waits is not answered, what is not in the log is lost.
    pub fn restart(&mut self) {
        self.writes.clear();
        self.markers.clear();
        self.lost.clear();
        self.coordinator = self.replayed();
        let actions = self.coordinator.loaded(self.now());
        self.carry_out(actions);
    }

    pub fn describe(&self, id: &str) -> Result<TransactionDescription, ErrorCode> {
        self.coordinator.describe(id)
    }

    pub fn names(coordinator: &TransactionCoordinator, now: Now) -> Vec<String> {
        let all = coordinator.list(&TransactionFilter::default(), now);
        all.into_iter().map(|one| one.transactional_id).collect()
    }

    pub fn identity_of(&self, token: Token) -> Option<Identity> {
        match self.responses.get(&token)? {
            TransactionResponse::Identity(identity) => Some(*identity),
            TransactionResponse::Added(error) => panic!("{error:?} is no identity"),
        }
    }

    pub fn added(&self, token: Token) -> Option<ErrorCode> {
        match self.responses.get(&token)? {
            TransactionResponse::Added(error) => Some(*error),
            TransactionResponse::Identity(identity) => panic!("{identity:?} added nothing"),
        }
    }

    // What follows waits for its answer.

    pub fn init(&mut self, id: &str) -> Identity {
        let token = self.ask_init(id, TIMEOUT_MS, None);
        self.settle();
        self.identity_of(token).expect("answered")
    }

    pub fn init_again(&mut self, id: &str, expected: ProducerIdentity) -> Identity {
        let token = self.ask_init(id, TIMEOUT_MS, Some(expected));
        self.settle();
        self.identity_of(token).expect("answered")
    }

    pub fn add(&mut self, id: &str, producer: ProducerIdentity, of_t: &[i32]) -> ErrorCode {
        let token = self.ask_add(id, producer, of_t, self.settings.transaction_version);
        self.settle();
        self.added(token).expect("answered")
    }

    pub fn end(&mut self, id: &str, producer: ProducerIdentity, outcome: Outcome) -> Identity {
        let token = self.ask_end(id, producer, outcome, self.settings.transaction_version);
        self.settle();
        self.identity_of(token).expect("answered")
    }
}
