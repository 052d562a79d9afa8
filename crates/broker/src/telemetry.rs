//! Clients' metrics (KIP-714): what clients are asked for, and what becomes of it.
//!
//! A client instance belongs to the shard that its id names, so that what it did over one
//! connection counts over another. That shard says whether a push may come; the shard of the
//! connection decompresses it, reads it and shows it: one line at level INFO, and at level DEBUG
//! one for each value. Nothing of it is kept.
//!
//! Memory: a bounded number of instances; of pushes as many as may be read at the same time, each
//! no larger than `telemetry.max.bytes`, whatever it claims to be (CVE-2026-111073).

mod instances;
mod otlp;

use std::{
    cell::{Cell, RefCell},
    future::{Future, ready},
    rc::Rc,
};

use cluster::{
    client_metrics::{self, Client, Subscription, Wanted},
    record::{ConfigResource, ResourceType},
};
use model::{
    ErrorCode, Uuid,
    compression::{CompressionError, Decompressor},
    record_batch::Compression,
};
use runtime::ShardIndex;

use crate::{gather_turns::GatherTurns, peers::Call, shard::Shard};
use instances::{Asked, Instances, Offer, Subscriptions};

/// The codecs that a client may choose from, the best first. One that sends its metrics as they are
/// is understood, too.
pub(crate) const ACCEPTED_CODECS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];
/// Client instances of all shards together: as many as Apache Kafka remembers.
const INSTANCES_MAX: usize = 16_384;
/// How much comes out of a codec before other tasks have their turn.
const SLICE_BYTES: usize = 128 << 10;
/// Values of one push that are shown one by one: a client of today has some hundred.
const VALUES_SHOWN_MAX: usize = 1000;
/// Characters of a client's text that are shown.
const TEXT_SHOWN_MAX: usize = 200;

/// One shard's part.
pub(crate) struct Telemetry {
    instances: RefCell<Instances>,
    /// How often subscriptions were altered.
    version: Cell<u64>,
    /// `None`: they have to be read again.
    subscriptions: RefCell<Option<Rc<[Subscription]>>>,
    turns: Rc<GatherTurns>,
}

/// What a client sends, besides its metrics.
pub(crate) struct Push {
    pub(crate) client: Client,
    pub(crate) subscription_id: i32,
    /// Whether the client ends.
    pub(crate) is_last: bool,
    pub(crate) codec: i8,
    /// As it is sent.
    pub(crate) bytes: usize,
}

impl Telemetry {
    pub(crate) fn new(shard_count: u16) -> Telemetry {
        Telemetry {
            instances: RefCell::new(Instances::new(INSTANCES_MAX / usize::from(shard_count))),
            version: Cell::new(0),
            subscriptions: RefCell::new(None),
            turns: Rc::default(),
        }
    }

    /// Settings of these have changed.
    pub(crate) fn note_changes(&self, changed: &[ConfigResource]) {
        if changed.iter().any(|one| one.resource_type == ResourceType::CLIENT_METRICS) {
            self.version.set(self.version.get() + 1);
            *self.subscriptions.borrow_mut() = None;
        }
    }
}

impl Shard {
    fn telemetry_owner(&self, instance: Uuid) -> ShardIndex {
        let number = instance.0[15];
        ShardIndex(u16::from(number) % self.runtime.shard_count())
    }

    /// What is wanted of a client.
    ///
    /// # Errors
    /// When it asks again too soon.
    pub(crate) async fn telemetry_subscription(
        self: &Rc<Self>,
        client: Client,
    ) -> Result<Asked, ErrorCode> {
        let owner = self.telemetry_owner(client.instance);
        self.call(owner, Ask { client }).await.answer().await
    }

    /// Takes a client's metrics and shows them.
    ///
    /// # Errors
    /// When they are too many, too soon, not what the client was asked for, or no metrics.
    pub(crate) async fn take_telemetry(
        self: &Rc<Self>,
        push: Push,
        metrics: &[u8],
    ) -> Result<(), ErrorCode> {
        let owner = self.telemetry_owner(push.client.instance);
        let offer = Offer {
            subscription_id: push.subscription_id,
            is_last: push.is_last,
            has_known_codec: codec(push.codec).is_some(),
            is_too_large: push.bytes > self.config.telemetry.max_bytes,
        };
        let admit = Admit { client: push.client.clone(), offer };
        self.call(owner, admit).await.answer().await?;
        let codec = codec(push.codec).expect("admitted with a codec");
        let _turn = self.telemetry.turns.take(true).await;
        let plain = self.decompressed(codec, metrics).await.map_err(|error| {
            tracing::warn!(client = %Shown(&push.client.id), %error, "client metrics refused");
            match error {
                CompressionError::TooLarge { .. } => ErrorCode::TelemetryTooLarge,
                CompressionError::Malformed(_) => ErrorCode::InvalidRecord,
            }
        })?;
        show(&push, &plain).map_err(|error| {
            tracing::warn!(client = %Shown(&push.client.id), %error, "client metrics refused");
            ErrorCode::InvalidRecord
        })
    }

    async fn decompressed(
        &self,
        codec: Compression,
        bytes: &[u8],
    ) -> Result<Vec<u8>, CompressionError> {
        let mut plain = Vec::new();
        if bytes.is_empty() {
            return Ok(plain);
        }
        let mut source = Decompressor::new(codec, bytes, self.config.telemetry.max_bytes)?;
        while source.read(&mut plain, SLICE_BYTES)? > 0 {
            self.runtime.yield_now().await;
        }
        Ok(plain)
    }

    /// A client's connection has ended: when it comes back it may ask at once.
    pub(crate) async fn forget_telemetry(self: &Rc<Self>, instance: Uuid) {
        let owner = self.telemetry_owner(instance);
        self.call(owner, Forget { instance }).await.answer().await;
    }

    /// Calls `with` with the instances and what they are subscribed to.
    fn with_telemetry<T>(&self, with: impl FnOnce(&mut Instances, &Subscriptions<'_>) -> T) -> T {
        let telemetry = &self.telemetry;
        let known = telemetry.subscriptions.borrow().clone();
        let all = known.unwrap_or_else(|| {
            let image = self.image.borrow();
            let names = image.configured(ResourceType::CLIENT_METRICS).map(str::to_owned);
            let resource =
                |name| ConfigResource { resource_type: ResourceType::CLIENT_METRICS, name };
            let read = names.filter_map(|name| Subscription::new(image.configs(&resource(name))));
            let read: Rc<[Subscription]> = read.collect();
            *telemetry.subscriptions.borrow_mut() = Some(Rc::clone(&read));
            read
        });
        let wanted = |client: &Client| -> Wanted { client_metrics::wanted(&all, client) };
        let subscriptions = Subscriptions { version: telemetry.version.get(), wanted: &wanted };
        with(&mut telemetry.instances.borrow_mut(), &subscriptions)
    }
}

fn codec(code: i8) -> Option<Compression> {
    let all = ACCEPTED_CODECS.into_iter().chain([Compression::None]);
    all.into_iter().find(|codec| codec.code() == i16::from(code))
}

/// A client asks what it is to push.
struct Ask {
    client: Client,
}

impl Call for Ask {
    type Answer = Result<Asked, ErrorCode>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let now = shard.runtime.now();
        ready(shard.with_telemetry(|instances, all| instances.ask(&self.client, all, now)))
    }
}

/// A client pushes.
struct Admit {
    client: Client,
    offer: Offer,
}

impl Call for Admit {
    type Answer = Result<(), ErrorCode>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let now = shard.runtime.now();
        let Admit { client, offer } = self;
        ready(shard.with_telemetry(|instances, all| instances.admit(&client, &offer, all, now)))
    }
}

/// A client's connection has ended.
struct Forget {
    instance: Uuid,
}

impl Call for Forget {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.telemetry.instances.borrow_mut().forget(self.instance);
        ready(())
    }
}

/// Reads a push to its end before anything of it is shown.
fn show(push: &Push, plain: &[u8]) -> Result<(), otlp::Malformed> {
    let (mut metrics, mut values) = (0_usize, 0_usize);
    otlp::read(plain, &mut |metric| {
        metrics += 1;
        metric.values(&mut |_| values += 1)
    })?;
    let client = &push.client;
    tracing::info!(
        client = %Shown(&client.id),
        instance = %client.instance,
        software = %Shown(&client.software_name),
        version = %Shown(&client.software_version),
        address = %client.address,
        metrics,
        values,
        bytes = plain.len(),
        last = push.is_last,
        "client metrics"
    );
    if tracing::enabled!(tracing::Level::DEBUG) {
        let mut shown = 0;
        otlp::read(plain, &mut |metric| {
            metric.values(&mut |value| {
                shown += 1;
                if shown <= VALUES_SHOWN_MAX {
                    let name = Shown(metric.name);
                    tracing::debug!(client = %Shown(&client.id), metric = %name, %value, "client metric");
                }
            })
        })?;
    }
    Ok(())
}

/// A text of a client's on one line, and of bounded length.
struct Shown<'a>(&'a str);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start: String = self.0.chars().take(TEXT_SHOWN_MAX).collect();
        start.escape_debug().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_is_one_short_line() {
        assert_eq!(Shown("a\nb").to_string(), "a\\nb");
        assert_eq!(Shown(&"x".repeat(1000)).to_string().len(), TEXT_SHOWN_MAX);
    }

    #[test]
    fn codecs_are_kafkas() {
        assert_eq!(codec(4), Some(Compression::Zstd));
        assert_eq!(codec(0), Some(Compression::None));
        assert_eq!((codec(5), codec(-1)), (None, None));
    }
}
