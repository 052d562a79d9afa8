//! Consumers: one that follows each partition from its start, and the members of a group.

use std::{collections::BTreeMap, time::Duration};

use client::{
    Client, CommittedOffsets, Connection, Error, FetchOptions, Fetched, GroupMember, GroupOptions,
    Isolation, OffsetSpec, Position,
};
use model::{ErrorCode, Offset};

use super::{clients::Workload, features::Role, history::Partition};
use crate::Rng;

/// The group of the run.
pub(crate) const GROUP: &str = "group";
const FETCH: FetchOptions = FetchOptions {
    max_wait: Duration::from_millis(50),
    min_bytes: 1,
    max_bytes: 1 << 20,
    partition_max_bytes: 16 << 10,
    isolation: Isolation::Uncommitted,
};

/// Between two passes over everything.
const REREAD_PAUSE: Duration = Duration::from_millis(50);

impl Workload {
    /// Follows a partition from its first record.
    pub(crate) async fn follow(self, partition: Partition) {
        let client = self.client(&format!("reader-{}-{}", partition.0, partition.1));
        let mut position =
            Position { topic: partition.0, partition: partition.1, offset: Offset(0) };
        while !self.stop.get() {
            let connection = self.connect(&client).await;
            let life = self.history.borrow().tails.life;
            match connection.fetch(std::slice::from_ref(&position), FETCH).await {
                Ok(fetched) => {
                    self.operation();
                    for fetched in &fetched {
                        if fetched.error_code == ErrorCode::OffsetOutOfRange {
                            self.find_place(&connection, &mut position).await;
                        } else if self.is_believed(fetched, life) {
                            position.offset = self.take(fetched, position.offset);
                        }
                    }
                }
                Err(error) => {
                    self.refuse_nonsense("fetch", error);
                    self.pause().await;
                }
            }
        }
    }

    /// An answer from before a power cut tells nothing of a log that held its syncs back.
    fn is_believed(&self, fetched: &Fetched, life: u64) -> bool {
        let history = self.history.borrow();
        let role = history.role(&(fetched.topic.clone(), fetched.partition));
        !matches!(role, Role::HeldBack { .. }) || life == history.tails.life
    }

    /// The broker says that it has nothing at this offset: true where the log's start has passed
    /// it, or a power cut has taken it.
    async fn find_place(&self, connection: &Connection, position: &mut Position) {
        let partition = (position.topic.clone(), position.partition);
        let (role, life, power_cuts) = {
            let history = self.history.borrow();
            (history.role(&partition), history.tails.life, history.tails.power_cuts)
        };
        let spec = OffsetSpec::Earliest;
        let start = match connection.list_offset(&position.topic, position.partition, spec).await {
            Ok(start) => start.unwrap_or_default(),
            Err(error) => {
                self.refuse_nonsense("ListOffsets", error);
                self.pause().await;
                return;
            }
        };
        let has_passed = matches!(role, Role::Trimmed { .. }) && start > position.offset;
        let was_taken = matches!(role, Role::HeldBack { .. }) && power_cuts > 0;
        // A log start that was not told to anybody may go back with a crash.
        let is_same_life = self.history.borrow().tails.life == life;
        if !has_passed && !was_taken && is_same_life {
            let offset = position.offset;
            self.complain(format!("{partition:?} has no {offset}, and starts at {start}"));
        }
        position.offset = start;
    }

    /// Reads everything from its start, over and over.
    pub(crate) async fn reread(self, partitions: Vec<Partition>) {
        let client = self.client("rereader");
        while !self.stop.get() {
            for (topic, partition) in &partitions {
                let start =
                    Position { topic: topic.clone(), partition: *partition, offset: Offset(0) };
                if let Err(error) = self.reread_one(&client, start).await {
                    self.refuse_nonsense("reading again", error);
                    client.disconnect();
                    self.pause().await;
                }
            }
            self.runtime.sleep(REREAD_PAUSE).await;
        }
    }

    async fn reread_one(&self, client: &Client, mut position: Position) -> Result<(), Error> {
        let connection = self.connect(client).await;
        let latest = OffsetSpec::Latest;
        let end = connection.list_offset(&position.topic, position.partition, latest).await?;
        while !self.stop.get() && Some(position.offset) < end {
            let fetched = connection.fetch(std::slice::from_ref(&position), FETCH).await?;
            self.operation();
            let fetched = fetched.first().ok_or(Error::Nonsense("an empty answer"))?;
            let next = self.take(fetched, position.offset);
            if next == position.offset {
                return Ok(());
            }
            position.offset = next;
        }
        Ok(())
    }

    /// Notes what a fetch brought; gives the offset to go on from.
    fn take(&self, fetched: &Fetched, from: Offset) -> Offset {
        let partition = (fetched.topic.clone(), fetched.partition);
        if matches!(fetched.error_code, ErrorCode::CorruptMessage | ErrorCode::KafkaStorageError)
            && let Some(to) = self.history.borrow_mut().pass_damage(&partition, from.0)
        {
            return Offset(to);
        }
        if fetched.error_code != ErrorCode::None {
            self.refuse_nonsense("fetch", Error::Refused(fetched.error_code));
            return from;
        }
        match fetched.records_from(from) {
            Ok((records, next)) => {
                let mut history = self.history.borrow_mut();
                let mut expected = from;
                for record in &records {
                    let offset = record.offset;
                    let missed = history.missed(&partition, expected.0..offset.0);
                    let complaint = match missed {
                        None if offset < expected => {
                            Some(format!("{partition:?}: {offset} follows {expected}"))
                        }
                        missed => missed,
                    };
                    complaint.into_iter().for_each(|complaint| history.complain(complaint));
                    if record.offset >= fetched.high_watermark {
                        let end = fetched.high_watermark;
                        history.complain(format!("{partition:?}: {expected} is beyond {end}"));
                    }
                    expected = offset.next();
                    let content = (record.key.as_deref(), record.value.as_deref());
                    if let Some(value) = history.identify(&partition, offset.0, content) {
                        history.note_seen(&partition, offset.0, &value);
                    }
                }
                next
            }
            Err(error) => {
                self.complain(format!("{partition:?} from {from}: {error}"));
                from
            }
        }
    }

    /// A member of the group: joins, reads, commits, leaves at times and comes back.
    ///
    /// After a failure of its connection it comes back as a new member: a commit that was under way
    /// belongs to a generation that is then over.
    pub(crate) async fn be_member(
        self,
        (group, index): (&'static str, u64),
        topics: Vec<String>,
        mut rng: Rng,
    ) {
        let client = self.client(&format!("{group}-member-{index}"));
        while !self.stop.get() {
            let connection = self.connect(&client).await;
            let member = GroupMember::new(
                connection.clone(),
                GroupOptions {
                    group: group.to_owned(),
                    topics: topics.clone(),
                    session_timeout: Duration::from_secs(6),
                    rebalance_timeout: Duration::from_secs(6),
                },
            );
            if let Err(error) = self.take_part(&connection, group, member, &mut rng).await {
                self.refuse_nonsense("group", error);
                client.disconnect();
                self.pause().await;
            }
        }
    }

    async fn take_part(
        &self,
        connection: &Connection,
        group: &str,
        mut member: GroupMember,
        rng: &mut Rng,
    ) -> Result<(), Error> {
        while !self.stop.get() {
            match self.be_in_generation(connection, group, &mut member, rng).await {
                Ok(()) => break,
                Err(Error::Refused(
                    ErrorCode::RebalanceInProgress
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::UnknownMemberId,
                )) => {}
                Err(error) => return Err(error),
            }
        }
        match member.leave().await {
            // It was thrown out meanwhile.
            Ok(()) | Err(Error::Refused(ErrorCode::UnknownMemberId)) => self.operation(),
            Err(error) => return Err(error),
        }
        let pause = Duration::from_millis(rng.below(50));
        self.runtime.sleep(pause).await;
        Ok(())
    }

    /// One generation, until it ends or the member has had enough.
    async fn be_in_generation(
        &self,
        connection: &Connection,
        group: &str,
        member: &mut GroupMember,
        rng: &mut Rng,
    ) -> Result<(), Error> {
        member.join().await?;
        self.operation();
        self.history.borrow_mut().counts.joins += 1;
        let committed = connection.committed_offsets(group, Some(member.assignment())).await?;
        let owner = (group, member.generation_id(), member.member_id());
        let mut positions = self.start_positions(owner, member.assignment(), &committed);
        loop {
            if self.stop.get() || rng.chance(10) {
                return Ok(());
            }
            self.poll(connection, &mut positions).await?;
            if rng.chance(300) {
                let offsets = offsets_of(&positions);
                if !offsets.is_empty() {
                    member.commit(&offsets).await?;
                    self.committed(group, &offsets);
                }
            }
            member.heartbeat().await?;
            self.operation();
        }
    }

    pub(super) fn start_positions(
        &self,
        (group, generation, member): (&str, i32, &str),
        assignment: &BTreeMap<String, Vec<i32>>,
        committed: &CommittedOffsets,
    ) -> Vec<Position> {
        let mut positions = Vec::new();
        let mut history = self.history.borrow_mut();
        for (topic, partitions) in assignment {
            for partition in partitions {
                let partition = (topic.clone(), *partition);
                let offset = committed.get(&partition).map_or(Offset(0), |found| found.offset);
                history.check_committed(group, &partition, offset.0);
                history.note_owner((group, generation), &partition, member);
                let (topic, partition) = partition;
                positions.push(Position { topic, partition, offset });
            }
        }
        positions
    }

    /// Reads on from each position; waits a while where there is none.
    pub(super) async fn poll(
        &self,
        connection: &Connection,
        positions: &mut [Position],
    ) -> Result<(), Error> {
        if positions.is_empty() {
            self.runtime.sleep(Duration::from_millis(50)).await;
            return Ok(());
        }
        let fetched = connection.fetch(positions, FETCH).await?;
        self.operation();
        self.take_all(&fetched, positions);
        Ok(())
    }

    fn take_all(&self, fetched: &[Fetched], positions: &mut [Position]) {
        for fetched in fetched {
            let position = positions.iter_mut().find(|position| {
                position.topic == fetched.topic && position.partition == fetched.partition
            });
            match position {
                Some(position) => position.offset = self.take(fetched, position.offset),
                None => self.complain("a fetch of what nobody asked for".to_owned()),
            }
        }
    }

    /// A commit was acknowledged.
    pub(super) fn committed(&self, group: &str, offsets: &CommittedOffsets) {
        self.operation();
        let mut history = self.history.borrow_mut();
        for (partition, committed) in offsets {
            history.note_commit(group, partition, committed.offset.0);
        }
    }
}

/// Where a member would go on.
pub(super) fn offsets_of(positions: &[Position]) -> CommittedOffsets {
    positions
        .iter()
        .map(|position| ((position.topic.clone(), position.partition), position.offset.into()))
        .collect()
}
