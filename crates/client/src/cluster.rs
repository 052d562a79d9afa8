//! A cluster's brokers by what they lead: one connection to each that is needed.
//!
//! For clients of any cluster: it asks one broker who there is, and then whoever leads. It keeps
//! no retries of its own: who gets an error asks for [`Cluster::refresh`] and tries again.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, time::Duration};

use model::ErrorCode;
use runtime::Runtime;

use crate::{AutoCreate, Connection, Error, Metadata, Options, Result};

/// How a broker's host and port become an address. It may block: it is asked once a broker and
/// refresh.
pub type Resolve = fn(&str, u16) -> Option<SocketAddr>;

/// How soon a topic without leaders is asked for again.
const LEADERS_PAUSE: Duration = Duration::from_millis(50);

/// Brokers, leaders, and the connections that were needed so far.
pub struct Cluster {
    runtime: Runtime,
    bootstrap: SocketAddr,
    resolve: Resolve,
    options: Options,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    bootstrap: Option<Connection>,
    brokers: BTreeMap<i32, (String, i32)>,
    leaders: BTreeMap<String, Vec<i32>>,
    connections: BTreeMap<i32, Connection>,
}

impl Cluster {
    /// A cluster that has not been asked yet.
    #[must_use]
    pub fn new(
        runtime: &Runtime,
        bootstrap: SocketAddr,
        resolve: Resolve,
        options: Options,
    ) -> Cluster {
        Cluster { runtime: runtime.clone(), bootstrap, resolve, options, known: RefCell::default() }
    }

    /// The broker that it was pointed at, for what any broker answers.
    ///
    /// # Errors
    /// Those of [`Connection::connect`].
    pub async fn any(&self) -> Result<Connection> {
        let current = self.known.borrow().bootstrap.clone();
        if let Some(connection) = current.filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        let connection =
            Connection::connect(&self.runtime, self.bootstrap, self.options.clone()).await?;
        self.known.borrow_mut().bootstrap = Some(connection.clone());
        Ok(connection)
    }

    /// Asks who there is, and who leads these topics.
    ///
    /// # Errors
    /// The connection's; those of a topic stand in the answer.
    pub async fn refresh(&self, topics: &[&str], auto_create: AutoCreate) -> Result<Metadata> {
        let metadata = self.any().await?.metadata(Some(topics), auto_create).await?;
        let mut known = self.known.borrow_mut();
        known.brokers = metadata
            .brokers
            .iter()
            .map(|broker| (broker.node_id, (broker.host.clone(), broker.port)))
            .collect();
        for topic in &metadata.topics {
            if topic.error_code == ErrorCode::None {
                known.leaders.insert(topic.name.clone(), topic.leaders.clone());
            }
        }
        Ok(metadata)
    }

    /// Waits until the topic is there and each of its partitions is led; the leaders in order.
    ///
    /// # Errors
    /// The connection's; the topic's where it is final, or still so after `patience`.
    pub async fn leaders(
        &self,
        topic: &str,
        auto_create: AutoCreate,
        patience: Duration,
    ) -> Result<Vec<i32>> {
        let deadline = self.runtime.now() + patience;
        loop {
            let metadata = self.refresh(&[topic], auto_create).await?;
            let found = metadata.topics.into_iter().next().ok_or(Error::Nonsense("no topic"))?;
            let is_led = !found.leaders.is_empty() && found.leaders.iter().all(|one| *one >= 0);
            let judged = Error::check(found.error_code.code());
            if judged.is_ok() && is_led {
                return Ok(found.leaders);
            }
            let refused = judged.err().unwrap_or(Error::Refused(ErrorCode::LeaderNotAvailable));
            if !refused.is_retriable() || self.runtime.now() >= deadline {
                return Err(refused);
            }
            self.runtime.sleep(LEADERS_PAUSE).await;
        }
    }

    /// Who leads the partition, by the last refresh; `None` while nobody does.
    #[must_use]
    pub fn leader_of(&self, topic: &str, partition: i32) -> Option<i32> {
        let known = self.known.borrow();
        let leaders = known.leaders.get(topic)?;
        let leader = leaders.get(usize::try_from(partition).ok()?)?;
        (*leader >= 0).then_some(*leader)
    }

    /// A connection to this broker; each has one.
    ///
    /// # Errors
    /// [`ErrorCode::BrokerNotAvailable`] for a broker that the last refresh did not name or whose
    /// name has no address; else those of [`Connection::connect`].
    pub async fn broker(&self, node_id: i32) -> Result<Connection> {
        let current = self.known.borrow().connections.get(&node_id).cloned();
        if let Some(connection) = current.filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        let address = {
            let known = self.known.borrow();
            let (host, port) =
                known.brokers.get(&node_id).ok_or(Error::Refused(ErrorCode::BrokerNotAvailable))?;
            let port = u16::try_from(*port).ok();
            port.and_then(|port| (self.resolve)(host, port))
                .ok_or(Error::Refused(ErrorCode::BrokerNotAvailable))?
        };
        let connection = Connection::connect(&self.runtime, address, self.options.clone()).await?;
        self.known.borrow_mut().connections.insert(node_id, connection.clone());
        Ok(connection)
    }

    /// A connection to whoever leads the partition.
    ///
    /// # Errors
    /// [`ErrorCode::LeaderNotAvailable`] while nobody does; else those of [`Cluster::broker`].
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<Connection> {
        let leader = self
            .leader_of(topic, partition)
            .ok_or(Error::Refused(ErrorCode::LeaderNotAvailable))?;
        self.broker(leader).await
    }
}
