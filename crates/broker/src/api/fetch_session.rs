//! Incremental fetch sessions (KIP-227): the client names only what changed, and is told only what
//! changed. A session lives with its connection, and moves with it to another shard; after a
//! reconnect the client is told that it is not known and starts a new one.

use std::{cell::Cell, sync::Arc};

use model::{
    ErrorCode, TopicId,
    collections::{BTreeMap, BTreeSet},
};
use wire::fetch_request::FetchRequest;

/// The session epoch of a fetch outside of any session, which closes the one it names.
const FINAL_EPOCH: i32 = -1;
/// The session epoch of a full fetch that wants a session.
const INITIAL_EPOCH: i32 = 0;
/// Sessions of one connection: a client has one for each broker.
const SESSIONS_OF_A_CONNECTION_MAX: usize = 4;
/// Partitions of a session that take one slot: one of more takes several, so that the slots bound
/// the memory (some 100 bytes a partition), whatever clients ask for. Apache Kafka counts sessions.
const PARTITIONS_A_SLOT: usize = 1000;

/// One partition that is fetched.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The topic's name; empty from version 13 on.
    pub(crate) name: Arc<str>,
    /// The topic's id; zero before version 13.
    pub(crate) id: TopicId,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    /// What the client was told last; -1 before.
    pub(crate) told_high_watermark: Cell<i64>,
    pub(crate) told_log_start: Cell<i64>,
}

/// What names a partition in a request.
type PartitionKey<'a> = (&'a str, TopicId, i32);

impl Wanted {
    fn key(&self) -> PartitionKey<'_> {
        (&self.name, self.id, self.partition)
    }
}

/// A session.
struct Session {
    id: i32,
    epoch: i32,
    by_id: bool,
    wanted: Vec<Wanted>,
    /// Those that it takes.
    slots: usize,
}

/// The sessions of one connection.
#[derive(Default)]
pub(crate) struct FetchSessions {
    sessions: Vec<Session>,
}

/// How a fetch is to be answered.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Everything about these partitions.
    Full { session: i32, wanted: Vec<Wanted> },
    /// What is new about the session's partitions.
    Incremental { session: i32, wanted: Vec<Wanted> },
    /// Nothing but this error.
    Refused(ErrorCode),
}

/// How many sessions a shard has and may have: `max.incremental.fetch.session.cache.slots`.
pub(crate) struct Slots {
    pub(crate) used: Cell<usize>,
    pub(crate) max: usize,
}

impl Slots {
    /// What a session of so many partitions takes.
    fn of(partitions: usize) -> usize {
        partitions.div_ceil(PARTITIONS_A_SLOT).max(1)
    }

    /// Takes so many more; false where there are not as many left.
    fn take(&self, count: usize) -> bool {
        let has_room = self.used.get() + count <= self.max;
        if has_room {
            self.used.set(self.used.get() + count);
        }
        has_room
    }

    fn give_back(&self, count: usize) {
        self.used.set(self.used.get() - count);
    }
}

impl FetchSessions {
    /// Finds, opens, changes or closes the session that a fetch names. `new_id` is a random
    /// positive number.
    pub(crate) fn plan(
        &mut self,
        request: &FetchRequest<'_>,
        by_id: bool,
        slots: &Slots,
        new_id: i32,
    ) -> Plan {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            if id != 0 {
                self.close(id, slots);
            }
            let wanted = wanted_of(request);
            let taken = Slots::of(wanted.len());
            let opens = epoch == INITIAL_EPOCH
                && !wanted.is_empty()
                && self.sessions.len() < SESSIONS_OF_A_CONNECTION_MAX
                && slots.take(taken);
            let session = if opens { new_id } else { 0 };
            if opens {
                let wanted = wanted.clone();
                self.sessions.push(Session { id: new_id, epoch: 1, by_id, wanted, slots: taken });
            }
            return Plan::Full { session, wanted };
        }
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else {
            return Plan::Refused(ErrorCode::FetchSessionIdNotFound);
        };
        if session.epoch != epoch {
            return Plan::Refused(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Plan::Refused(ErrorCode::FetchSessionTopicIdError);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.change(request);
        let needed = Slots::of(session.wanted.len());
        if needed > session.slots && !slots.take(needed - session.slots) {
            // The client starts again with a full fetch, which gets no session.
            self.close(id, slots);
            return Plan::Refused(ErrorCode::FetchSessionIdNotFound);
        }
        slots.give_back(session.slots.saturating_sub(needed));
        session.slots = needed;
        Plan::Incremental { session: id, wanted: session.wanted.clone() }
    }

    /// Remembers what the client was told, and lets partitions that sent records go last the next
    /// time, so that one busy partition does not starve the others.
    pub(crate) fn told(&mut self, id: i32, told: &[(usize, i64, i64)], sent: &[usize]) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else {
            return;
        };
        for (index, high_watermark, log_start) in told {
            session.wanted[*index].told_high_watermark.set(*high_watermark);
            session.wanted[*index].told_log_start.set(*log_start);
        }
        let mut is_sent = vec![false; session.wanted.len()];
        for index in sent {
            is_sent[*index] = true;
        }
        let mut first = Vec::with_capacity(session.wanted.len());
        let mut last = Vec::new();
        for (wanted, is_sent) in session.wanted.drain(..).zip(is_sent) {
            if is_sent { last.push(wanted) } else { first.push(wanted) }
        }
        first.append(&mut last);
        session.wanted = first;
    }

    /// Takes all sessions off this shard: the connection moves.
    pub(crate) fn detach(&mut self, slots: &Slots) -> FetchSessions {
        self.sessions.iter().for_each(|session| slots.give_back(session.slots));
        std::mem::take(self)
    }

    /// Sessions that came with their connection. Those that find no slots here are given up.
    pub(crate) fn attach(mut self, slots: &Slots) -> FetchSessions {
        self.sessions.retain(|session| slots.take(session.slots));
        self
    }

    /// Gives up all sessions: the connection ends.
    pub(crate) fn close_all(&mut self, slots: &Slots) {
        for session in self.sessions.drain(..) {
            slots.give_back(session.slots);
        }
    }

    fn close(&mut self, id: i32, slots: &Slots) {
        if let Some(index) = self.sessions.iter().position(|session| session.id == id) {
            slots.give_back(self.sessions.remove(index).slots);
        }
    }
}

impl Session {
    /// Costs as much as the request and the session are long, not their product: both are up to a
    /// few hundred thousand partitions. Not by hash: clients choose the names.
    fn change(&mut self, request: &FetchRequest<'_>) {
        let new = wanted_of(request);
        if !new.is_empty() {
            self.add(new);
        }
        let forgotten: BTreeSet<PartitionKey<'_>> = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| {
                let key = |partition: &i32| (topic.topic, topic.topic_id, *partition);
                topic.partitions.iter().map(key)
            })
            .collect();
        if !forgotten.is_empty() {
            self.wanted.retain(|wanted| !forgotten.contains(&wanted.key()));
        }
    }

    fn add(&mut self, new: Vec<Wanted>) {
        let mut places: BTreeMap<(Arc<str>, TopicId, i32), usize> = BTreeMap::new();
        for (index, wanted) in self.wanted.iter().enumerate() {
            places.insert((Arc::clone(&wanted.name), wanted.id, wanted.partition), index);
        }
        for new in new {
            let key = (Arc::clone(&new.name), new.id, new.partition);
            if let Some(index) = places.get(&key) {
                let wanted = &mut self.wanted[*index];
                wanted.offset = new.offset;
                wanted.max_bytes = new.max_bytes;
                wanted.leader_epoch = new.leader_epoch;
                wanted.last_fetched_epoch = new.last_fetched_epoch;
            } else {
                places.insert(key, self.wanted.len());
                self.wanted.push(new);
            }
        }
    }
}

fn wanted_of(request: &FetchRequest<'_>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let name: Arc<str> = Arc::from(topic.topic);
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            name: Arc::clone(&name),
            id: topic.topic_id,
            partition: partition.partition,
            offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            told_high_watermark: Cell::new(-1),
            told_log_start: Cell::new(-1),
        }));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use wire::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

    use super::*;

    fn request<'a>(id: i32, epoch: i32, partitions: &[i32], forgotten: &[i32]) -> FetchRequest<'a> {
        let topics = vec![FetchTopic {
            topic: "t",
            partitions: partitions
                .iter()
                .map(|partition| FetchPartition { partition: *partition, ..Default::default() })
                .collect(),
            ..Default::default()
        }];
        let forgotten_topics_data = vec![ForgottenTopic {
            topic: "t",
            partitions: forgotten.to_vec(),
            ..Default::default()
        }];
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics,
            forgotten_topics_data,
            ..Default::default()
        }
    }

    fn partitions(plan: &Plan) -> Vec<i32> {
        match plan {
            Plan::Full { wanted, .. } | Plan::Incremental { wanted, .. } => {
                wanted.iter().map(|wanted| wanted.partition).collect()
            }
            Plan::Refused(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn session_remembers_adds_and_forgets() {
        let slots = Slots { used: Cell::new(0), max: 10 };
        let mut sessions = FetchSessions::default();
        let plan = sessions.plan(&request(0, 0, &[0, 1], &[]), false, &slots, 77);
        assert!(matches!(plan, Plan::Full { session: 77, .. }));
        let plan = sessions.plan(&request(77, 1, &[2], &[0]), false, &slots, 78);
        assert_eq!(partitions(&plan), [1, 2]);
        sessions.told(77, &[(0, 5, 0)], &[0]);
        let plan = sessions.plan(&request(77, 2, &[], &[]), false, &slots, 78);
        assert_eq!(partitions(&plan), [2, 1]);
        assert_eq!(slots.used.get(), 1);
        sessions.close_all(&slots);
        assert_eq!(slots.used.get(), 0);
    }

    #[test]
    fn unknown_and_out_of_order_sessions_are_refused() {
        let slots = Slots { used: Cell::new(0), max: 1 };
        let mut sessions = FetchSessions::default();
        sessions.plan(&request(0, 0, &[0], &[]), false, &slots, 77);
        let refused = |plan: Plan, error: ErrorCode| match plan {
            Plan::Refused(code) => assert_eq!(code, error),
            other @ (Plan::Full { .. } | Plan::Incremental { .. }) => panic!("{other:?}"),
        };
        let unknown = sessions.plan(&request(5, 1, &[], &[]), false, &slots, 78);
        refused(unknown, ErrorCode::FetchSessionIdNotFound);
        let late = sessions.plan(&request(77, 3, &[], &[]), false, &slots, 78);
        refused(late, ErrorCode::InvalidFetchSessionEpoch);
        let by_id = sessions.plan(&request(77, 1, &[], &[]), true, &slots, 78);
        refused(by_id, ErrorCode::FetchSessionTopicIdError);
        // No room for a second one: the fetch is answered without a session.
        let full = sessions.plan(&request(0, 0, &[0], &[]), false, &slots, 79);
        assert!(matches!(full, Plan::Full { session: 0, .. }));
        // Closed by its last fetch.
        let last = sessions.plan(&request(77, -1, &[0], &[]), false, &slots, 80);
        assert!(matches!(last, Plan::Full { session: 0, .. }));
        assert_eq!(slots.used.get(), 0);
    }

    #[test]
    fn a_large_session_takes_several_slots() {
        let slots = Slots { used: Cell::new(0), max: 300 };
        let mut sessions = FetchSessions::default();
        let many: Vec<i32> = (0..150_000).collect();
        sessions.plan(&request(0, 0, &many, &[]), false, &slots, 77);
        assert_eq!(slots.used.get(), 150);
        let more: Vec<i32> = (75_000..225_000).collect();
        let plan = sessions.plan(&request(77, 1, &more, &many[..75_000]), false, &slots, 78);
        assert_eq!(partitions(&plan).len(), 150_000);
        assert_eq!(slots.used.get(), 150);
        // One that grows beyond what is left is given up.
        let others: Vec<i32> = (1_000_000..1_200_000).collect();
        let plan = sessions.plan(&request(77, 2, &others, &[]), false, &slots, 78);
        assert!(matches!(plan, Plan::Refused(ErrorCode::FetchSessionIdNotFound)));
        assert_eq!(slots.used.get(), 0);
    }
}
