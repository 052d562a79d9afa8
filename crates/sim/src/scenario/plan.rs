//! What a seed decides before anything runs: topics, clients, and how often who dies.

use super::{
    damage::DamagePlan,
    features::{Features, Role},
    trouble::{Trouble, TroublePlan},
};
use crate::{Crash, Moment, Rng};

/// How often every seed kills the broker or cuts its power, at least.
pub(crate) const CRASHES_MIN: u64 = 3;

/// Of 1,000 seeds so many have a disk that damages what was durable.
const DAMAGED_PERMILLE: u32 = 100;

/// What a producer may expect of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// acks=all of an idempotent producer: once, in order, through every crash.
    ExactlyOnce,
    /// acks=all without an id: at least once, through every crash.
    AtLeastOnce,
    /// acks=1: at least once while the power stays on.
    Written,
    /// acks=0: nothing but that what comes is whole.
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) name: &'static str,
    pub(crate) partition_count: i32,
    pub(crate) segment_bytes: u32,
    /// What may become of its records.
    pub(crate) role: Role,
}

#[derive(Clone, Debug)]
pub(crate) struct ProducerPlan {
    pub(crate) promise: Promise,
    pub(crate) topic: &'static str,
    pub(crate) partition_count: i32,
    pub(crate) batch_count: u32,
    /// Batches in flight at once.
    pub(crate) window: usize,
    pub(crate) record_bytes_max: u64,
    pub(crate) pause_us_max: u64,
    /// How many keys its records have, and a tombstone now and then; 0: they have none.
    pub(crate) key_count: u64,
}

/// One crash, or a clean stop, and what it waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndPlan {
    pub(crate) end: End,
    pub(crate) when: When,
    /// What the disk does before.
    pub(crate) trouble: Option<TroublePlan>,
    pub(crate) shard_count_after: u16,
    pub(crate) dark_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Crash(Crash),
    CleanStop,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Soon after the start: recovery itself is interrupted.
    AfterStart { us: u64 },
    /// Some progress, then a moment.
    AtMoment { acked_batches: u64, moment: Moment, countdown: u64, delay_ns: u64 },
}

/// Whether the broker's durable marks move in the short time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// At clean stops alone.
    Standing,
    /// All the time.
    Moving,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shard_count: u16,
    pub(crate) topics: Vec<TopicPlan>,
    pub(crate) producers: Vec<ProducerPlan>,
    pub(crate) group_members: u64,
    pub(crate) churned_topics: u64,
    pub(crate) ends: Vec<EndPlan>,
    pub(crate) damage: Option<DamagePlan>,
    pub(crate) features: Features,
    pub(crate) transactions: Option<TransactionsPlan>,
}

/// What `--transactions` adds.
#[derive(Clone, Debug)]
pub(crate) struct TransactionsPlan {
    pub(crate) rng: Rng,
    pub(crate) tellers: usize,
    /// Transactions of each of them.
    pub(crate) quota: u64,
    pub(crate) segment_bytes: u32,
    /// Of `__transaction_state`.
    pub(crate) log_partition_count: i32,
}

impl TransactionsPlan {
    /// Drawn by itself, so that all else of a seed is planned as without it.
    pub(crate) fn by_seed(seed: u64) -> TransactionsPlan {
        let mut rng = Rng::new(seed ^ 0x7e11_e125);
        TransactionsPlan {
            tellers: 1 + rng.index(3),
            quota: rng.between(25, 50),
            segment_bytes: rng.pick(&[4 << 10, 64 << 10]),
            log_partition_count: rng.pick(&[1, 3]),
            rng,
        }
    }
}

impl Plan {
    /// What came later is drawn from `extras` and then from `features`, so that a seed without it
    /// stays the run that it was.
    pub(crate) fn by_seed(
        rng: &mut Rng,
        extras: &mut Rng,
        features: Option<&mut Rng>,
        shards: Option<u16>,
    ) -> Plan {
        let shard_count = shards.unwrap_or_else(|| shard_count(rng));
        let mut topics = vec![
            TopicPlan {
                name: "orders",
                partition_count: 3,
                segment_bytes: segment_bytes(rng),
                role: Role::Kept,
            },
            TopicPlan {
                name: "events",
                partition_count: 2,
                segment_bytes: segment_bytes(rng),
                role: Role::Kept,
            },
        ];
        let promises = [
            Promise::ExactlyOnce,
            Promise::ExactlyOnce,
            Promise::ExactlyOnce,
            Promise::AtLeastOnce,
            Promise::Written,
            Promise::Nothing,
        ];
        let mut producers: Vec<ProducerPlan> = promises
            .into_iter()
            .map(|promise| {
                let topic = &topics[rng.index(topics.len())];
                ProducerPlan {
                    promise,
                    topic: topic.name,
                    partition_count: topic.partition_count,
                    batch_count: u32::try_from(rng.between(150, 250)).expect("small"),
                    window: if promise == Promise::ExactlyOnce { 1 + rng.index(5) } else { 1 },
                    record_bytes_max: rng.pick(&[40, 400, 4000]),
                    pause_us_max: rng.pick(&[1, 500, 5000]),
                    key_count: 0,
                }
            })
            .collect();
        let mut ends = ends(rng, &producers, shards);
        let damage =
            extras.chance(DAMAGED_PERMILLE).then(|| DamagePlan::by_seed(extras, ends.len()));
        if let Some(damage) = damage.filter(|damage| damage.stops_before) {
            ends[damage.after_life].end = End::CleanStop;
        }
        let (group_members, churned_topics) = (rng.between(1, 3), rng.between(1, 6));
        let features = match (damage, features) {
            (None, Some(rng)) => Features::by_seed(rng, &mut topics, &mut producers),
            (Some(_), _) | (None, None) => Features::default(),
        };
        // They leave the usual producers less to send.
        let reachable = answered_batches(&producers) * 4 / 5;
        for end in &mut ends {
            if let When::AtMoment { acked_batches, .. } = &mut end.when {
                *acked_batches = (*acked_batches).min(reachable);
            }
        }
        Plan {
            shard_count,
            topics,
            producers,
            group_members,
            churned_topics,
            ends,
            damage,
            features,
            transactions: None,
        }
    }

    /// True if no power cut is planned: then acks=1 is a promise, too.
    pub(crate) fn keeps_power(&self) -> bool {
        self.ends.iter().all(|end| end.end != End::Crash(Crash::PowerCut))
    }
}

fn shard_count(rng: &mut Rng) -> u16 {
    rng.pick(&[1, 2, 3, 4])
}

/// Small, so that a run rolls often; the largest batch still fits.
fn segment_bytes(rng: &mut Rng) -> u32 {
    rng.pick(&[20 << 10, 64 << 10, 256 << 10])
}

/// How many batches are acknowledged in all.
fn answered_batches(producers: &[ProducerPlan]) -> u64 {
    let answered = producers.iter().filter(|producer| producer.promise != Promise::Nothing);
    answered.map(|producer| u64::from(producer.batch_count)).sum()
}

fn ends(rng: &mut Rng, producers: &[ProducerPlan], shards: Option<u16>) -> Vec<EndPlan> {
    let total = answered_batches(producers);
    let kinds: &[End] = rng.pick(&[
        &[End::Crash(Crash::Kill)][..],
        &[End::Crash(Crash::PowerCut)],
        &[End::Crash(Crash::Kill), End::Crash(Crash::PowerCut)],
        &[End::Crash(Crash::Kill), End::Crash(Crash::PowerCut)],
    ]);
    let troubles = Trouble::of_a_seed(rng);
    let crashes = rng.between(CRASHES_MIN, 6);
    let mut ends = Vec::new();
    for crash in 0..crashes {
        let moments = [Moment::Write, Moment::Sync, Moment::NameChange, Moment::Allocate];
        let when = if rng.chance(200) {
            When::AfterStart { us: rng.below(30_000) }
        } else {
            When::AtMoment {
                acked_batches: total * (crash + 1) / (crashes + 2),
                moment: rng.pick(&moments),
                countdown: rng.between(1, 12),
                delay_ns: rng.pick(&[1, 20_000, 500_000, 5_000_000]),
            }
        };
        let clean = crash >= CRASHES_MIN && rng.chance(200);
        let is_late = matches!(when, When::AtMoment { .. });
        let is_troubled = is_late && !clean && !troubles.is_empty() && rng.chance(700);
        let trouble = is_troubled.then(|| TroublePlan::by_seed(rng, troubles));
        ends.push(EndPlan {
            end: if clean { End::CleanStop } else { rng.pick(kinds) },
            when,
            trouble,
            shard_count_after: shards.unwrap_or_else(|| shard_count(rng)),
            dark_us: rng.pick(&[1, 1_000, 100_000]),
        });
    }
    ends
}
