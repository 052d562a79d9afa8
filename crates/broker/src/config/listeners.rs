//! `listeners`, `advertised.listeners` and what belongs to them: where clients of which network
//! come in, and where they are told that the broker is.
//!
//! Each listener has a port of its own, so the port that a connection came in by tells which
//! listener it is of: nothing else has to be remembered of a connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{ConfigError, Decided, Reader};

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
/// What a listener is called of which nobody gave a name.
pub const NAME_DEFAULT: &str = "PLAINTEXT";
/// Listeners that there may be: each costs a task and a socket.
const COUNT_MAX: usize = 16;

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientListener {
    /// Its name, in Kafka's sense.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where clients that came by it reach this node; `None`: where they have come in.
    pub advertised: Option<(String, u16)>,
}

/// One entry of `listeners` or `advertised.listeners`, with its name not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name, in capitals.
    pub name: String,
    /// Empty for every address of the machine.
    pub host: String,
    /// 0 for any that is free.
    pub port: u16,
}

/// Where clients are to connect to by `listeners`, in its order; none where it is not given.
///
/// # Errors
/// When it is malformed or asks for an encrypted one.
pub fn client_listeners(properties: &BTreeMap<String, String>) -> Result<Vec<Named>, ConfigError> {
    Names::of(&Reader::new(properties)).read(LISTENERS)
}

/// What is decided, with what clients are told.
///
/// # Errors
/// When a setting makes no sense or does not fit the listeners.
pub(super) fn read(
    reader: &Reader<'_>,
    decided: &Decided,
) -> Result<Vec<ClientListener>, ConfigError> {
    let names = Names::of(reader);
    // For the refusal of what cannot be listened on, wherever the addresses came from.
    names.read(LISTENERS)?;
    let advertised = names.read(ADVERTISED)?;
    for one in &advertised {
        if one.host.is_empty() || one.host == "0.0.0.0" || one.host == "::" {
            return Err(reader.refuse(ADVERTISED, "a host that clients can reach"));
        }
        if one.port == 0 {
            return Err(reader.refuse(ADVERTISED, "a port from 1 to 65535"));
        }
    }
    let mut listeners: Vec<ClientListener> = decided
        .listen
        .iter()
        .map(|(name, address)| ClientListener {
            name: name.clone(),
            address: *address,
            advertised: None,
        })
        .collect();
    if let ([listener], [one]) = (&mut listeners[..], &advertised[..]) {
        // Whoever gives one address by a flag need not give it a name.
        listener.advertised = Some((one.host.clone(), one.port));
        return Ok(listeners);
    }
    let is_alone = listeners.len() == 1;
    for one in advertised {
        match listeners.iter_mut().find(|listener| listener.name == one.name) {
            Some(listener) => listener.advertised = Some((one.host, one.port)),
            // The flag took the place of several listeners.
            None if is_alone => {}
            None => return Err(reader.refuse(ADVERTISED, "names of listeners")),
        }
    }
    Ok(listeners)
}

/// How listeners are named here.
struct Names<'r, 'a> {
    reader: &'r Reader<'a>,
    controllers: Vec<&'a str>,
    protocols: BTreeMap<&'a str, &'a str>,
}

impl<'r, 'a> Names<'r, 'a> {
    fn of(reader: &'r Reader<'a>) -> Names<'r, 'a> {
        let names = reader.text("controller.listener.names").unwrap_or_default();
        let map = reader.text("listener.security.protocol.map").unwrap_or_default();
        let protocols = map.split(',').filter_map(|pair| pair.split_once(':'));
        // Which of them brokers use among themselves is no matter to one alone.
        let _between_brokers = reader.text("inter.broker.listener.name");
        Names {
            reader,
            controllers: names.split(',').map(str::trim).collect(),
            protocols: protocols.map(|(name, to)| (name.trim(), to.trim())).collect(),
        }
    }

    /// The entries of this setting that are for clients. A controller's is left out: the only
    /// controller is the node itself.
    fn read(&self, setting: &str) -> Result<Vec<Named>, ConfigError> {
        let Some(text) = self.reader.text(setting) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in text.split(',') {
            let listener = parse(entry.trim())
                .ok_or_else(|| self.reader.refuse(setting, "PLAINTEXT://HOST:PORT"))?;
            if self.controllers.contains(&listener.name.as_str()) {
                continue;
            }
            let protocol = self.protocols.get(listener.name.as_str()).copied();
            if protocol.unwrap_or(&listener.name) != "PLAINTEXT" {
                return Err(self.reader.unsupported(setting, "the one protocol is PLAINTEXT"));
            }
            found.push(listener);
        }
        self.check_together(setting, &found)?;
        Ok(found)
    }

    fn check_together(&self, setting: &str, found: &[Named]) -> Result<(), ConfigError> {
        let names: BTreeSet<&str> = found.iter().map(|one| one.name.as_str()).collect();
        if names.len() < found.len() {
            return Err(self.reader.refuse(setting, "a name of its own for each listener"));
        }
        if setting != LISTENERS || found.len() < 2 {
            return Ok(());
        }
        if found.len() > COUNT_MAX {
            return Err(self.reader.refuse(setting, "at most 16 listeners"));
        }
        let ports: BTreeSet<u16> = found.iter().map(|one| one.port).collect();
        if ports.len() < found.len() || ports.contains(&0) {
            return Err(self.reader.refuse(setting, "a port of its own for each listener"));
        }
        Ok(())
    }
}

/// `NAME://HOST:PORT`, where the host may be empty or an IPv6 address in brackets.
fn parse(entry: &str) -> Option<Named> {
    let (name, address) = entry.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_bare_v6 = bare.is_none() && host.contains(':');
    if name.is_empty() || is_bare_v6 || host.contains(char::is_whitespace) {
        return None;
    }
    Some(Named {
        name: name.to_ascii_uppercase(),
        host: bare.unwrap_or(host).to_owned(),
        port: port.parse().ok()?,
    })
}
