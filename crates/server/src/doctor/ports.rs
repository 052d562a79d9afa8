//! Whether what the broker would listen on can be had.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use broker::config::{ADMIN_DEFAULT, AdminPort, BrokerConfig};

use super::Finding;
use crate::{health, settings};

/// How long who has the port may take to tell that it is a broker.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn look(config: &BrokerConfig, findings: &mut Vec<Finding>) {
    findings.extend(config.listeners.iter().map(|listener| clients(listener.address)));
    match &config.admin.port {
        AdminPort::None => {
            let meaning = "admin.listen=none: no metrics, no health over HTTP";
            findings.push(Finding::ok("admin", "none", meaning));
        }
        AdminPort::Usual => findings.push(admin(ADMIN_DEFAULT, Wanted::IfFree)),
        AdminPort::At(address) => findings.push(admin(address, Wanted::InAnyCase)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    IfFree,
    InAnyCase,
}

fn clients(address: SocketAddr) -> Finding {
    let Err(error) = TcpListener::bind(address) else {
        return Finding::ok("port", address.to_string(), "free for clients");
    };
    let found = format!("{address}: {error}");
    let meaning = "the broker would not start";
    if error.kind() != io::ErrorKind::AddrInUse {
        return Finding::bad("port", found, meaning, advice(&error));
    }
    if health::check(address, PATIENCE).is_ok() {
        let meaning = "a Kafka broker listens there: if it is this one, it runs";
        let advice = "stop it before another is started, or take another --listen HOST:PORT";
        return Finding::bad("port", found, meaning, advice);
    }
    Finding::bad("port", found, meaning, advice(&error))
}

fn admin(text: &str, wanted: Wanted) -> Finding {
    let address = match settings::resolve_text(text) {
        Ok(address) => address,
        Err(error) => {
            let advice = "set admin.listen to HOST:PORT or none";
            return Finding::bad("admin", error.to_string(), "the broker would not start", advice);
        }
    };
    let Err(error) = TcpListener::bind(address) else {
        return Finding::ok("admin", address.to_string(), "free for metrics");
    };
    let found = format!("{address}: {error}");
    match wanted {
        Wanted::InAnyCase => {
            let meaning = "admin.listen asks for it: the broker would not start";
            Finding::bad("admin", found, meaning, advice(&error))
        }
        Wanted::IfFree => {
            let meaning = "the broker would run without metrics";
            Finding::warn("admin", found, meaning, "set admin.listen to a free address")
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "there are many kinds")]
    match error.kind() {
        io::ErrorKind::AddrInUse => "ss -ltnp tells who has it: stop that, or take another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: take another"
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        _ => "take another address",
    }
}
