//! The console: pages for people, and what they ask.
//!
//! ```text
//!   GET  /console/             the page, its script and its style, which are in the binary
//!   GET  /console/api/...      what the page shows, as JSON: look.rs, messages.rs
//!   POST /console/api/...      what it changes, where `odradek.console=write`: change.rs
//! ```
//! Metrics come from the shards; all else is asked by Kafka's protocol, by a client of its own, as
//! any client would ask it. A browser that was led here by another site gets nothing: the name in
//! `Host` has to be an address, `localhost` or the one of `admin.listen`, and `Origin`, where it is
//! sent, this port itself.

mod change;
mod look;
mod messages;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use broker::config::{AdminPort, BrokerConfig, Console as Switch};
use client::Cluster;
use runtime::Runtime;
use serde_json::json;
use tokio::sync::Semaphore;

use super::Shared;
use crate::{alone, settings};

const PAGE: &str = include_str!("../../console/index.html");
const SCRIPT: &str = include_str!("../../console/console.js");
const STYLE: &str = include_str!("../../console/console.css");
/// Questions to the broker at a time: each has a thread and a client of its own.
const QUESTIONS_MAX: usize = 4;
/// How long a question waits for its turn, and each of its requests for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a record that is sent by hand, as JSON.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Nothing from elsewhere, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

struct Console {
    shared: Arc<Shared>,
    places: Semaphore,
    /// The host of `admin.listen`, as it was given.
    name: Option<String>,
    /// This broker's id.
    node: String,
    can_change: bool,
}

/// Where people look; nothing where the settings want none.
pub(super) fn routes(shared: &Arc<Shared>, address: SocketAddr, config: &BrokerConfig) -> Router {
    let is_shown = match config.admin.console {
        Switch::Off => false,
        Switch::Usual => address.ip().is_loopback(),
        Switch::Read | Switch::Write => true,
    };
    if !is_shown {
        return Router::new();
    }
    let name = match &config.admin.port {
        AdminPort::At(text) => text.rsplit_once(':').map(|(host, _)| host.to_owned()),
        AdminPort::Usual | AdminPort::None => None,
    };
    let console = Arc::new(Console {
        shared: Arc::clone(shared),
        places: Semaphore::new(QUESTIONS_MAX),
        name,
        node: config.node_id.to_string(),
        can_change: config.admin.console == Switch::Write,
    });
    Router::new()
        .route("/", get(async || Redirect::temporary("/console/")))
        .route("/console", get(async || Redirect::temporary("/console/")))
        .route("/console/", get(async || text("text/html; charset=utf-8", PAGE)))
        .route("/console/console.js", get(async || text("text/javascript; charset=utf-8", SCRIPT)))
        .route("/console/console.css", get(async || text("text/css; charset=utf-8", STYLE)))
        .route("/console/api/overview", get(look::overview))
        .route("/console/api/topics", get(look::topics))
        .route("/console/api/topic", get(look::topic))
        .route("/console/api/settings", get(look::settings))
        .route("/console/api/slow", get(look::slow))
        .route("/console/api/groups", get(look::groups))
        .route("/console/api/group", get(look::group))
        .route("/console/api/messages", get(messages::browse))
        .route("/console/api/produce", post(change::produce))
        .route("/console/api/create", post(change::create))
        .route("/console/api/delete", post(change::delete))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), guard))
        .with_state(console)
}

fn text(kind: &'static str, body: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], body).into_response()
}

/// Turns away whom another site sent, and tells the browser to keep to this one.
async fn guard(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    if let Some(reason) = console.objection(request.method(), request.headers()) {
        return Failure { status: StatusCode::FORBIDDEN, reason: reason.to_owned() }
            .into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Console {
    fn objection(&self, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let Some(host) = header(HOST).filter(|host| self.knows(host)) else {
            return Some("the Host is no address of this port: see odradek.console");
        };
        if headers.contains_key(ORIGIN)
            && header(ORIGIN).and_then(|origin| origin.strip_prefix("http://")) != Some(host)
        {
            return Some("the Origin is another site");
        }
        // No form of another site can send it without asking first.
        let is_json = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
        if *method != Method::GET && *method != Method::HEAD {
            if !is_json {
                return Some("the Content-Type has to be application/json");
            }
            if !self.can_change {
                return Some("the console only reads: odradek.console=write lets it change things");
            }
        }
        None
    }

    /// Whether a `Host` can only mean this port: a name could have been led here by its owner.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _port)) => address,
            None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// Asks this broker something as a client, on a thread of its own.
    async fn ask<T: Send + 'static>(
        &self,
        act: impl AsyncFnOnce(Runtime, Cluster) -> client::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let unavailable = |reason: &str| Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: reason.to_owned(),
        };
        let address =
            *self.shared.served.get().ok_or_else(|| unavailable("clients are not served yet"))?;
        let turn = tokio::time::timeout(PATIENCE, self.places.acquire()).await;
        let _place = turn.map_err(|_| unavailable("too much is asked at once"))?;
        let asked = tokio::task::spawn_blocking(move || {
            alone::on_cluster_at(settings::reachable(address), PATIENCE, act)
        });
        let answer = asked.await.map_err(|error| unavailable(&error.to_string()))?;
        answer.map_err(|reason| unavailable(&reason))?.map_err(Failure::from)
    }
}

/// What went wrong, in one line for people.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    reason: String,
}

impl Failure {
    fn bad(reason: impl Into<String>) -> Failure {
        Failure { status: StatusCode::BAD_REQUEST, reason: reason.into() }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let status = match error {
            client::Error::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            client::Error::Io(_)
            | client::Error::Closed
            | client::Error::TimedOut
            | client::Error::FrameSize(_)
            | client::Error::Wire(_)
            | client::Error::Batch(_)
            | client::Error::Compressed
            | client::Error::Nonsense(_)
            | client::Error::NoCommonVersion(_) => StatusCode::BAD_GATEWAY,
        };
        Failure { status, reason: error.to_string() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.reason }))).into_response()
    }
}

type Answer = Result<Json<serde_json::Value>, Failure>;
