//! The clients that tell their metrics: who may push when. Pure.
//!
//! An instance that was not seen for a while is forgotten, and the one that was not seen for
//! longest when there are too many; both begin anew when they come again.

use std::time::Duration;

use cluster::client_metrics::{Client, Wanted};
use model::{
    ErrorCode, Uuid,
    collections::{BTreeMap, HashMap},
};
use runtime::Instant;

/// How long an instance is remembered at least.
const REMEMBERED: Duration = Duration::from_secs(60);
/// And in times of its interval.
const REMEMBERED_INTERVALS: u32 = 3;

/// The subscriptions of a moment.
pub(super) struct Subscriptions<'a> {
    /// Grows when they are altered.
    pub(super) version: u64,
    /// What they want of a client.
    pub(super) wanted: &'a dyn Fn(&Client) -> Wanted,
}

/// What a client is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: i32,
    pub(crate) wanted: Wanted,
}

/// A push, as far as it is judged unread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) subscription_id: i32,
    /// Whether the client ends.
    pub(super) is_last: bool,
    pub(super) has_known_codec: bool,
    pub(super) is_too_large: bool,
}

/// The instances of a shard.
pub(super) struct Instances {
    by_id: HashMap<Uuid, Instance>,
    by_use: BTreeMap<u64, Uuid>,
    uses: u64,
    max: usize,
}

struct Instance {
    asked: Asked,
    version: u64,
    /// Its place in the order of use.
    used: u64,
    used_at: Instant,
    asked_at: Option<Instant>,
    pushed_at: Option<Instant>,
    has_ended: bool,
    /// It was told to ask again.
    may_ask_again: bool,
}

impl Instance {
    fn interval(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.asked.wanted.interval_ms).unwrap_or(0))
    }

    fn has_passed(&self, since: Option<Instant>, now: Instant) -> bool {
        since.is_none_or(|since| now.since(since) >= self.interval())
    }

    fn remembered(&self) -> Duration {
        REMEMBERED.max(self.interval() * REMEMBERED_INTERVALS)
    }
}

impl Instances {
    pub(super) fn new(max: usize) -> Instances {
        let max = max.max(1);
        Instances { by_id: HashMap::default(), by_use: BTreeMap::new(), uses: 0, max }
    }

    /// A client asks what it is to push.
    pub(super) fn ask(
        &mut self,
        client: &Client,
        all: &Subscriptions<'_>,
        now: Instant,
    ) -> Result<Asked, ErrorCode> {
        let instance = self.find(client, all, now);
        if instance.has_passed(instance.asked_at.max(instance.pushed_at), now) {
            instance.asked_at = Some(now);
        } else if !instance.may_ask_again {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        instance.may_ask_again = false;
        Ok(instance.asked.clone())
    }

    /// A client pushes.
    pub(super) fn admit(
        &mut self,
        client: &Client,
        offer: &Offer,
        all: &Subscriptions<'_>,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let instance = self.find(client, all, now);
        let outcome = judge(instance, offer, now);
        instance.has_ended = offer.is_last;
        instance.may_ask_again = matches!(
            outcome,
            Err(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType)
        );
        outcome
    }

    pub(super) fn forget(&mut self, instance: Uuid) {
        if let Some(gone) = self.by_id.remove(&instance) {
            self.by_use.remove(&gone.used);
        }
    }

    /// The instance, made anew where it is not known, not known any more, or asked for something
    /// else by now.
    fn find(&mut self, client: &Client, all: &Subscriptions<'_>, now: Instant) -> &mut Instance {
        let id = client.instance;
        let is_stale = |known: &Instance| {
            known.version != all.version || now.since(known.used_at) > known.remembered()
        };
        if self.by_id.get(&id).is_some_and(is_stale) {
            self.forget(id);
        }
        self.uses += 1;
        let used = self.uses;
        if let Some(known) = self.by_id.get(&id) {
            self.by_use.remove(&known.used);
        } else {
            while self.by_id.len() >= self.max {
                let Some((_, oldest)) = self.by_use.pop_first() else { break };
                self.by_id.remove(&oldest);
            }
        }
        self.by_use.insert(used, id);
        let instance = self.by_id.entry(id).or_insert_with(|| {
            let wanted = (all.wanted)(client);
            Instance {
                asked: Asked { id: subscription_id(&wanted, id), wanted },
                version: all.version,
                used,
                used_at: now,
                asked_at: None,
                pushed_at: None,
                has_ended: false,
                may_ask_again: false,
            }
        });
        (instance.used, instance.used_at) = (used, now);
        instance
    }
}

/// In Apache Kafka's order.
fn judge(instance: &mut Instance, offer: &Offer, now: Instant) -> Result<(), ErrorCode> {
    if instance.has_ended {
        return Err(ErrorCode::InvalidRequest);
    }
    // The first push comes sooner than the interval says: clients spread theirs.
    let is_first = instance.asked_at > instance.pushed_at;
    if is_first || instance.has_passed(instance.pushed_at, now) {
        instance.pushed_at = Some(now);
    } else if !offer.is_last {
        return Err(ErrorCode::ThrottlingQuotaExceeded);
    }
    if offer.subscription_id != instance.asked.id {
        return Err(ErrorCode::UnknownSubscriptionId);
    }
    if !offer.has_known_codec {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if offer.is_too_large {
        return Err(ErrorCode::TelemetryTooLarge);
    }
    Ok(())
}

/// Changes with what is asked for (KIP-714), and is another one for each instance.
fn subscription_id(wanted: &Wanted, instance: Uuid) -> i32 {
    let mut crc = crc32c::crc32c(&instance.0);
    for name in &wanted.metrics {
        crc = crc32c::crc32c_append(crc, name.as_bytes());
        crc = crc32c::crc32c_append(crc, b",");
    }
    crc32c::crc32c_append(crc, &wanted.interval_ms.to_be_bytes()).cast_signed()
}

#[cfg(test)]
mod tests {
    use model::collections::BTreeSet;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn client(number: u8) -> Client {
        Client {
            instance: Uuid([number; 16]),
            id: String::new(),
            software_name: String::new(),
            software_version: String::new(),
            address: "127.0.0.1".parse().unwrap(),
            port: 1,
        }
    }

    fn wanted(_: &Client) -> Wanted {
        let interval_ms = i32::try_from(INTERVAL.as_millis()).unwrap();
        Wanted { metrics: BTreeSet::from(["*".to_owned()]), interval_ms }
    }

    fn all(version: u64) -> Subscriptions<'static> {
        Subscriptions { version, wanted: &wanted }
    }

    fn at(ms: u64) -> Instant {
        Instant::default() + Duration::from_millis(ms)
    }

    fn offer(subscription_id: i32) -> Offer {
        Offer { subscription_id, is_last: false, has_known_codec: true, is_too_large: false }
    }

    #[test]
    fn a_client_pushes_what_it_was_asked_for_as_often_as_it_was_asked_to() {
        let mut instances = Instances::new(9);
        let client = client(1);
        let id = instances.ask(&client, &all(0), at(0)).unwrap().id;
        let mut admit = |offer: Offer, ms| instances.admit(&client, &offer, &all(0), at(ms));
        assert_eq!(admit(offer(id), 500), Ok(()), "the first may come sooner");
        assert_eq!(admit(offer(id), 1499), Err(ErrorCode::ThrottlingQuotaExceeded));
        assert_eq!(admit(offer(id), 1500), Ok(()));
        assert_eq!(admit(offer(id + 1), 2500), Err(ErrorCode::UnknownSubscriptionId));
        let unknown = Offer { has_known_codec: false, ..offer(id) };
        assert_eq!(admit(unknown, 3500), Err(ErrorCode::UnsupportedCompressionType));
        let large = Offer { is_too_large: true, ..offer(id) };
        assert_eq!(admit(large, 4500), Err(ErrorCode::TelemetryTooLarge));
        let last = Offer { is_last: true, ..offer(id) };
        assert_eq!(admit(last, 4600), Ok(()), "the last one comes when the client ends");
        assert_eq!(admit(offer(id), 9000), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn who_asks_again_waits_unless_it_was_told_to() {
        let mut instances = Instances::new(9);
        let client = client(1);
        let id = instances.ask(&client, &all(0), at(0)).unwrap().id;
        let throttled = Err(ErrorCode::ThrottlingQuotaExceeded);
        assert_eq!(instances.ask(&client, &all(0), at(999)), throttled);
        assert!(instances.ask(&client, &all(0), at(1000)).is_ok());
        let refused = instances.admit(&client, &offer(id + 1), &all(0), at(1100));
        assert_eq!(refused, Err(ErrorCode::UnknownSubscriptionId));
        assert!(instances.ask(&client, &all(0), at(1101)).is_ok());
        assert_eq!(instances.ask(&client, &all(0), at(1102)), throttled);
        assert!(instances.ask(&client, &all(1), at(1103)).is_ok(), "there is something new");
        instances.forget(client.instance);
        assert!(instances.ask(&client, &all(1), at(1104)).is_ok(), "it came back");
    }

    #[test]
    fn only_so_many_are_remembered_and_only_so_long() {
        let mut instances = Instances::new(2);
        for number in [1, 2, 1, 3] {
            let _ = instances.ask(&client(number), &all(0), at(0));
        }
        assert_eq!((instances.by_id.len(), instances.by_use.len()), (2, 2));
        assert!(instances.ask(&client(1), &all(0), at(1)).is_err(), "used last");
        assert!(instances.ask(&client(2), &all(0), at(1)).is_ok(), "forgotten for the third");
        let id = instances.ask(&client(2), &all(0), at(60_000)).unwrap().id;
        let last = Offer { is_last: true, ..offer(id) };
        assert_eq!(instances.admit(&client(2), &last, &all(0), at(60_001)), Ok(()));
        let later = instances.admit(&client(2), &offer(id), &all(0), at(120_002));
        assert_eq!(later, Ok(()), "forgotten after a minute");
    }

    #[test]
    fn what_is_asked_for_has_an_id_of_its_own() {
        let of = |name: &str, interval_ms, number| {
            let metrics = BTreeSet::from([name.to_owned()]);
            subscription_id(&Wanted { metrics, interval_ms }, Uuid([number; 16]))
        };
        let ids = [of("a", 1, 1), of("b", 1, 1), of("a", 2, 1), of("a", 1, 2)];
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert_eq!(of("a", 1, 1), of("a", 1, 1));
    }
}
