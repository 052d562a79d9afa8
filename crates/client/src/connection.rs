//! One connection to a broker: requests go out in order, as many in flight as the caller likes, and
//! answers come back in that order.
//!
//! Two tasks serve a connection, one that sends and one that receives; both end when the last
//! handle is dropped or the stream fails, and every call that waits then gets [`Error::Closed`].

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    marker::PhantomData,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use model::ErrorCode;
use runtime::{
    Runtime, Stream, TaskQueue,
    local::{Channel, Oneshot, Sender, oneshot},
};
use wire::{
    Part, Request, Versions, api::ApiKey, api_versions_request::ApiVersionsRequest,
    api_versions_response::ApiVersionsResponse, frame,
};

use crate::{Error, Result};

/// Bytes that are received at once: a larger frame's memory grows as its bytes come.
const RECEIVE_STEP_BYTES: usize = 1 << 20;
/// Below this a frame has no room for its correlation id.
const FRAME_BYTES_MIN: usize = 4;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name that stands in every request.
    pub client_id: String,
    /// How long a call waits for its answer.
    pub request_timeout: Duration,
    /// The largest answer that is taken.
    pub frame_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            client_id: "odradek-client".to_owned(),
            request_timeout: Duration::from_secs(30),
            frame_bytes_max: 128 << 20,
        }
    }
}

/// A connection whose versions are negotiated. Clones are handles to the same one; the last one
/// closes it.
#[derive(Clone)]
pub struct Connection(Rc<Handle>);

struct Handle {
    shared: Rc<Shared>,
}

struct Shared {
    runtime: Runtime,
    stream: Stream,
    options: Options,
    versions: RefCell<BTreeMap<ApiKey, Versions>>,
    next_correlation_id: Cell<i32>,
    outgoing: Channel<Option<Vec<Bytes>>>,
    waiting: RefCell<VecDeque<(i32, Sender<Bytes>)>>,
    closed: Cell<bool>,
}

/// An answer that is still bytes: decoded, it borrows from here.
pub struct Answer<R> {
    frame: Bytes,
    version: i16,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Answer<R> {
    /// Reads the answer.
    ///
    /// # Errors
    /// When its bytes are not one.
    pub fn decode(&self) -> Result<R::Response<'_>> {
        let (_, reader) = frame::decode_response_header(&self.frame, R::KEY, self.version)?;
        Ok(frame::decode_body(reader, self.version)?)
    }

    /// The frame that the answer borrows from, for slices of it that outlive it.
    #[must_use]
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }
}

/// The newest version of an API that this client speaks. Where the newest names topics by their
/// ids only, this is the last that takes names.
fn newest(key: ApiKey) -> i16 {
    let known = key.row().versions.max;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others name topics in all versions")]
    match key {
        ApiKey::Produce => known.min(12),
        ApiKey::Fetch => known.min(12),
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => known.min(9),
        ApiKey::TxnOffsetCommit => known.min(5),
        ApiKey::ApiVersions => known.min(3),
        _ => known,
    }
}

impl Connection {
    /// Connects and asks for the broker's versions.
    ///
    /// # Errors
    /// When nobody listens there, or who does is no broker that this client can talk to.
    pub async fn connect(
        runtime: &Runtime,
        address: SocketAddr,
        options: Options,
    ) -> Result<Connection> {
        let deadline = runtime.now() + options.request_timeout;
        let stream = runtime.deadline(deadline, Stream::connect(runtime, address)).await;
        let stream = stream.map_err(|_| Error::TimedOut)??;
        let shared = Rc::new(Shared {
            runtime: runtime.clone(),
            stream,
            options,
            versions: RefCell::default(),
            next_correlation_id: Cell::new(0),
            outgoing: Channel::new(),
            waiting: RefCell::default(),
            closed: Cell::new(false),
        });
        let (sender, receiver) = (Rc::clone(&shared), Rc::clone(&shared));
        runtime.spawn(
            "client send",
            TaskQueue::Foreground,
            async move { sender.send_loop().await },
        );
        runtime.spawn("client receive", TaskQueue::Foreground, async move {
            receiver.receive_loop().await;
        });
        let connection = Connection(Rc::new(Handle { shared }));
        connection.negotiate().await?;
        Ok(connection)
    }

    async fn negotiate(&self) -> Result<()> {
        let request = ApiVersionsRequest {
            client_software_name: "odradek",
            client_software_version: env!("CARGO_PKG_VERSION"),
            ..Default::default()
        };
        let key = ApiKey::ApiVersions;
        let mut answer = self.call_version(&request, newest(key)).await?;
        // A broker that does not know the version answers in version 0 which it does.
        if error_code_of(&answer.frame) == Some(ErrorCode::UnsupportedVersion.code()) {
            answer = self.call_version(&request, 0).await?;
        }
        let response: ApiVersionsResponse<'_> = answer.decode()?;
        Error::check(response.error_code)?;
        let mut versions = self.0.shared.versions.borrow_mut();
        for offered in &response.api_keys {
            if let Ok(key) = ApiKey::try_from(offered.api_key) {
                versions
                    .insert(key, Versions { min: offered.min_version, max: offered.max_version });
            }
        }
        Ok(())
    }

    /// The version of an API that both sides know.
    ///
    /// # Errors
    /// [`Error::NoCommonVersion`].
    pub fn version_of(&self, key: ApiKey) -> Result<i16> {
        let versions = self.0.shared.versions.borrow();
        let offered = versions.get(&key).ok_or(Error::NoCommonVersion(key))?;
        let version = offered.max.min(newest(key));
        let common = version >= offered.min && key.row().versions.contains(version);
        if common { Ok(version) } else { Err(Error::NoCommonVersion(key)) }
    }

    /// Sends a request and waits for its answer. The request is on its way, behind all earlier
    /// ones, when this is first polled.
    ///
    /// # Errors
    /// Those of the connection; what the broker says of the request is in the answer.
    pub async fn call<R: Request>(&self, request: &R) -> Result<Answer<R>> {
        let version = self.version_of(R::KEY)?;
        self.call_version(request, version).await
    }

    async fn call_version<R: Request>(&self, request: &R, version: i16) -> Result<Answer<R>> {
        let waiting = self.submit(request, version)?;
        let shared = &self.0.shared;
        let deadline = shared.runtime.now() + shared.options.request_timeout;
        match shared.runtime.deadline(deadline, waiting.receive()).await {
            Ok(Some(frame)) => Ok(Answer { frame, version, request: PhantomData }),
            Ok(None) => Err(Error::Closed),
            Err(_) => {
                // As Kafka's clients do: who does not answer in time is not worth waiting for.
                shared.close();
                Err(Error::TimedOut)
            }
        }
    }

    fn submit<R: Request>(&self, request: &R, version: i16) -> Result<Oneshot<Bytes>> {
        let (correlation_id, frame) = self.encode(request, version)?;
        let (sender, receiver) = oneshot();
        self.0.shared.waiting.borrow_mut().push_back((correlation_id, sender));
        self.0.shared.outgoing.push(Some(frame));
        Ok(receiver)
    }

    /// Sends a request that gets no answer: a produce with acks=0.
    ///
    /// # Errors
    /// When the connection is closed. Whether the request arrives is never known.
    pub fn call_without_answer<R: Request>(&self, request: &R) -> Result<()> {
        let version = self.version_of(R::KEY)?;
        let (_, frame) = self.encode(request, version)?;
        self.0.shared.outgoing.push(Some(frame));
        Ok(())
    }

    fn encode<R: Request>(&self, request: &R, version: i16) -> Result<(i32, Vec<Bytes>)> {
        let shared = &self.0.shared;
        if shared.closed.get() {
            return Err(Error::Closed);
        }
        let correlation_id = shared.next_correlation_id.get();
        shared.next_correlation_id.set(correlation_id.wrapping_add(1) & i32::MAX);
        let client_id = Some(shared.options.client_id.as_str());
        let encoded = frame::encode_request(correlation_id, client_id, version, request)?;
        let bytes = |part| match part {
            Part::Bytes(bytes) => bytes,
            Part::External { .. } => panic!("a client has no records elsewhere"),
        };
        Ok((correlation_id, encoded.parts.into_iter().map(bytes).collect()))
    }

    /// True if the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.shared.closed.get()
    }

    /// The shard's runtime.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.0.shared.runtime
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        if !self.closed.replace(true) {
            self.outgoing.push(None);
            self.stream.shutdown();
            self.waiting.borrow_mut().clear();
        }
    }

    async fn send_loop(&self) {
        while let Some(frame) = self.outgoing.pop().await {
            if self.stream.send_all(frame).await.is_err() {
                break;
            }
        }
        self.close();
    }

    async fn receive_loop(&self) {
        while let Ok(frame) = self.receive().await {
            let Some((expected, waiting)) = self.waiting.borrow_mut().pop_front() else { break };
            if correlation_id_of(&frame) != Some(expected) {
                break;
            }
            waiting.send(frame);
        }
        self.close();
    }

    async fn receive(&self) -> Result<Bytes> {
        let head = self.receive_exact(4).await?;
        let size = i32::from_be_bytes(head[..].try_into().map_err(|_| Error::Closed)?);
        let refused = Error::FrameSize(i64::from(size));
        let size = usize::try_from(size).map_err(|_| refused)?;
        if size < FRAME_BYTES_MIN || size > self.options.frame_bytes_max {
            return Err(refused);
        }
        if size <= RECEIVE_STEP_BYTES {
            return self.receive_exact(size).await;
        }
        let mut frame = Vec::new();
        while frame.len() < size {
            let step = (size - frame.len()).min(RECEIVE_STEP_BYTES);
            frame.extend_from_slice(&self.receive_exact(step).await?);
        }
        Ok(Bytes::from(frame))
    }

    async fn receive_exact(&self, size: usize) -> Result<Bytes> {
        let buffer = self.runtime.pool().take(size);
        let buffer = self.stream.receive_exact(buffer, 0, size).await?;
        if buffer.len() < size {
            return Err(Error::Closed);
        }
        Ok(buffer.freeze())
    }
}

fn correlation_id_of(frame: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(*frame.first_chunk::<4>()?))
}

/// The error code of an ApiVersions answer, which follows the correlation id in every version.
fn error_code_of(frame: &[u8]) -> Option<i16> {
    Some(i16::from_be_bytes(*frame.get(4..)?.first_chunk::<2>()?))
}
