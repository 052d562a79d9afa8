//! The admin port: metrics and health over HTTP, on a thread of its own.
//!
//! ```text
//!   GET /metrics   Prometheus' text format: the broker's, then this process's; `?scope=node`: without
//!                  topics, partitions and groups
//!   GET /healthz   200 if all shards answer
//!   GET /readyz    200 if they do, and clients are served
//!   GET /debug/slow   the slowest requests of the last minutes, as JSON or as text
//!   /console/      pages for people, where `odradek.console` has them (console.rs)
//! ```
//! The shards are asked by messages, so a page costs them what it takes to look at
//! their partitions, and nothing while nobody asks. How many connections there can be, how long
//! their heads may take, and how many pages are made at once is bounded: who reaches this port
//! cannot take handles or memory from clients.

mod console;
mod process;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use broker::{
    AskSlow, Ping, Scope, Scrape, Slowest,
    config::{ADMIN_DEFAULT, AdminPort, BrokerConfig},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use runtime::{Injector, Message, ShardIndex};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot},
};

use crate::{settings, slow_requests};

/// Connections at a time; a further one waits in the listener's queue.
const CONNECTIONS_MAX: usize = 32;
/// How long a request's head may take, also between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long the shards may take to answer.
const SHARD_PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failed accept: there are no handles then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A port that is listened on and not served yet.
pub(crate) struct Admin {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    served: Served,
}

/// Where clients are served, once they are.
pub(crate) type Served = Arc<OnceLock<SocketAddr>>;

struct Shared {
    injector: Injector,
    served: Served,
    /// One page at a time: each looks at every partition.
    process: Mutex<process::Watch>,
}

impl Admin {
    /// Listens where the settings say; `None` where they want none, or where the usual port is
    /// somebody else's.
    ///
    /// # Errors
    /// One line, where the port that the settings name cannot be had.
    pub(crate) fn bind(port: &AdminPort) -> Result<Option<Admin>, String> {
        let (text, is_asked_for) = match port {
            AdminPort::None => return Ok(None),
            AdminPort::Usual => (ADMIN_DEFAULT, false),
            AdminPort::At(text) => (text.as_str(), true),
        };
        let address = settings::resolve_text(text).map_err(|error| error.to_string())?;
        match Admin::listen(address) {
            Ok(admin) => Ok(Some(admin)),
            Err(error) if is_asked_for => {
                Err(format!("cannot listen on {address} (admin.listen): {error}"))
            }
            Err(error) => {
                tracing::warn!(%address, %error, "no admin port, no metrics: set admin.listen");
                Ok(None)
            }
        }
    }

    fn listen(address: SocketAddr) -> io::Result<Admin> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        Ok(Admin { runtime, listener, address, served: Arc::default() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to set when clients are served.
    pub(crate) fn served(&self) -> Served {
        Arc::clone(&self.served)
    }

    /// Serves for as long as the process lives.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn serve(
        self,
        injector: Injector,
        shards: u16,
        config: &BrokerConfig,
    ) -> io::Result<()> {
        let Admin { runtime, listener, served, address } = self;
        let process = Mutex::new(process::Watch::new(shards));
        let shared = Arc::new(Shared { injector, served, process });
        let console = console::routes(&shared, address, config);
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/debug/slow", get(slow))
            .with_state(shared)
            .merge(console);
        let work = move || runtime.block_on(accept(&listener, &routes));
        thread::Builder::new().name("admin".to_owned()).spawn(work).map(drop)
    }
}

async fn accept(listener: &TcpListener, routes: &Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, routes.clone(), place))),
            Err(error) => {
                tracing::debug!(%error, "admin port: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, routes: Router, place: OwnedSemaphorePermit) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Err(error) = served.await {
        tracing::debug!(%error, "admin port: connection");
    }
    drop(place);
}

/// Sends the first shard a question that carries its reply's way back; what is answered, if it comes
/// in time.
async fn ask<T: Send + 'static>(
    shared: &Shared,
    question: impl FnOnce(oneshot::Sender<T>) -> Message,
) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    shared.injector.inject(ShardIndex(0), question(sender));
    tokio::time::timeout(SHARD_PATIENCE, answer).await.ok()?.ok()
}

/// Whoever asked may have given up.
fn reply<T>(sender: oneshot::Sender<T>, answer: T) {
    let _nobody_waits = sender.send(answer);
}

#[derive(Deserialize)]
struct MetricsQuery {
    #[serde(default)]
    scope: MetricsScope,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MetricsScope {
    #[default]
    All,
    Node,
}

async fn metrics(State(shared): State<Arc<Shared>>, Query(query): Query<MetricsQuery>) -> Response {
    let scope = match query.scope {
        MetricsScope::All => Scope::All,
        MetricsScope::Node => Scope::Node,
    };
    let Some(page) = metrics_page(&shared, scope).await else { return silent() };
    ([(CONTENT_TYPE, PROMETHEUS)], page).into_response()
}

/// `None` if the broker does not answer.
async fn metrics_page(shared: &Shared, scope: Scope) -> Option<String> {
    let mut process = shared.process.lock().await;
    let page = ask(shared, |sender| Box::new(Scrape::new(scope, |page| reply(sender, page)))).await;
    let mut page = page?;
    page.push_str(&process.page());
    Some(page)
}

#[derive(Deserialize)]
struct SlowQuery {
    format: Option<SlowFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SlowFormat {
    Json,
    Text,
}

async fn slow(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<SlowQuery>,
    headers: HeaderMap,
) -> Response {
    let Some(slowest) = slowest(&shared).await else { return silent() };
    let answer = slow_requests::json(&slowest);
    let accepts = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let wants_text = accepts.is_some_and(|accepted| accepted.starts_with("text/plain"));
    match query.format {
        Some(SlowFormat::Text) => slow_requests::text(&answer).into_response(),
        None if wants_text => slow_requests::text(&answer).into_response(),
        Some(SlowFormat::Json) | None => Json(answer).into_response(),
    }
}

/// `None` if the broker does not answer.
async fn slowest(shared: &Shared) -> Option<Slowest> {
    ask(shared, |sender| Box::new(AskSlow::new(|slowest| reply(sender, slowest)))).await
}

fn silent() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the broker does not answer\n").into_response()
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    match ask(&shared, |sender| Box::new(Ping::new(|| reply(sender, ())))).await {
        Some(()) => "ok\n".into_response(),
        None => silent(),
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.served.get().is_some() {
        return healthz(State(shared)).await;
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready yet\n").into_response()
}
