//! Members of KIP-848's protocol. Their group has classic members, too, so it goes from one protocol
//! to the other as they come and go.

use std::{collections::BTreeMap, time::Duration};

use client::{Connection, ConsumerGroupMember, ConsumerGroupOptions, Error, Position};

use super::{clients::Workload, readers::offsets_of};
use crate::Rng;

/// The group of both.
pub(crate) const MIXED: &str = "mixed";

impl Workload {
    /// A member that joins, reads, commits, leaves at times and comes back; after a failure of its
    /// connection as a new one, whose partitions are free when the old one's session is over.
    pub(crate) async fn be_consumer(self, index: u64, topics: Vec<String>, mut rng: Rng) {
        let client = self.client(&format!("consumer-{index}"));
        let mut lives = 0_u64;
        while !self.stop.get() {
            let connection = self.connect(&client).await;
            lives += 1;
            let member_id = format!("consumer-{index}-{lives}");
            let options = ConsumerGroupOptions {
                group: MIXED.to_owned(),
                member_id: member_id.clone(),
                topics: topics.clone(),
                rebalance_timeout: Duration::from_secs(6),
            };
            let member = ConsumerGroupMember::new(connection.clone(), options);
            match self.consume(&connection, &member_id, member, &mut rng).await {
                Ok(()) => {
                    let pause = Duration::from_millis(rng.below(50));
                    self.runtime.sleep(pause).await;
                }
                Err(error) if ConsumerGroupMember::is_lost(&error) => {}
                Err(error) => {
                    self.refuse_nonsense("consumer group", error);
                    client.disconnect();
                    self.pause().await;
                }
            }
        }
    }

    /// One membership, until the member has had enough or is out.
    async fn consume(
        &self,
        connection: &Connection,
        member_id: &str,
        mut member: ConsumerGroupMember,
        rng: &mut Rng,
    ) -> Result<(), Error> {
        member.join().await?;
        self.operation();
        self.history.borrow_mut().counts.consumer_joins += 1;
        let mut positions = Vec::new();
        while !self.stop.get() && !rng.chance(10) {
            self.follow_assignment(connection, member_id, &member, &mut positions).await?;
            self.poll(connection, &mut positions).await?;
            let offsets = offsets_of(&positions);
            if !offsets.is_empty() && rng.chance(300) {
                member.commit(&offsets).await?;
                self.committed(MIXED, &offsets);
            }
            member.heartbeat().await?;
            self.operation();
        }
        member.leave().await?;
        self.operation();
        Ok(())
    }

    /// Gives up what the member has no more, and begins what is new where the group has committed.
    async fn follow_assignment(
        &self,
        connection: &Connection,
        member_id: &str,
        member: &ConsumerGroupMember,
        positions: &mut Vec<Position>,
    ) -> Result<(), Error> {
        let mut added = BTreeMap::<String, Vec<i32>>::new();
        let assignment = member.assignment();
        positions.retain(|one| {
            assignment.get(&one.topic).is_some_and(|has| has.contains(&one.partition))
        });
        for (topic, partitions) in &assignment {
            let is_known = |partition: &i32| {
                positions.iter().any(|one| one.topic == *topic && one.partition == *partition)
            };
            let new: Vec<i32> = partitions.iter().copied().filter(|one| !is_known(one)).collect();
            if !new.is_empty() {
                added.insert(topic.clone(), new);
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        let committed = connection.committed_offsets(MIXED, Some(&added)).await?;
        let owner = (MIXED, member.epoch(), member_id);
        positions.extend(self.start_positions(owner, &added, &committed));
        Ok(())
    }
}
