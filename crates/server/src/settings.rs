//! A broker's settings from all their sources: flags over `--set` over the environment over the
//! file over the defaults. The one place that reads the file and resolves the listener's name.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use broker::config::{self, BrokerConfig, ConfigError, Decided};

use crate::{environment, properties};

/// Bytes of a `server.properties`; Kafka's own has 6,000.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the command line says.
#[derive(Debug, Default)]
pub(crate) struct Given<'a> {
    pub(crate) listen: Option<&'a str>,
    pub(crate) data_dir: Option<&'a Path>,
    pub(crate) file: Option<&'a Path>,
    /// `NAME=VALUE`, in order.
    pub(crate) sets: &'a [String],
}

/// Why there are no settings.
#[derive(Debug)]
pub(crate) enum Error {
    File { path: PathBuf, reason: String },
    Set(String),
    Address { address: String, reason: String },
    Setting(ConfigError),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File { path, reason } => write!(formatter, "{}: {reason}", path.display()),
            Error::Set(text) => write!(formatter, "--set {text:?}: NAME=VALUE expected"),
            Error::Address { address, reason } => {
                write!(formatter, "cannot listen on {address:?}: {reason}")
            }
            Error::Setting(error) => error.fmt(formatter),
        }
    }
}

/// Reads everything. The second half of the answer names what does nothing here.
pub(crate) fn load(given: &Given<'_>) -> Result<(BrokerConfig, Vec<String>), Error> {
    let file = match given.file {
        Some(path) => {
            read_file(path).map_err(|reason| Error::File { path: path.to_owned(), reason })?
        }
        None => BTreeMap::new(),
    };
    // A variable that is not UTF-8 is no setting.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment = environment::settings(&variables.collect());
    let properties = merge(file, environment, given.sets)?;
    let listeners = config::client_listeners(&properties).map_err(Error::Setting)?;
    let named = |address| vec![(config::NAME_DEFAULT.to_owned(), address)];
    let listen = match (given.listen, &listeners[..]) {
        (Some(text), _) => named(resolve_text(text)?),
        (None, []) => named(resolve(config::LISTEN_DEFAULT, config::PORT_DEFAULT)?),
        (None, several) => several
            .iter()
            .map(|one| Ok((one.name.clone(), resolve(&one.host, one.port)?)))
            .collect::<Result<_, Error>>()?,
    };
    let decided = Decided { listen, data_dir: given.data_dir.map(Path::to_owned) };
    BrokerConfig::from_properties(&properties, decided).map_err(Error::Setting)
}

fn merge(
    file: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    sets: &[String],
) -> Result<BTreeMap<String, String>, Error> {
    let mut merged = file;
    merged.extend(environment);
    for text in sets {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty())
            .ok_or_else(|| Error::Set(text.clone()))?;
        merged.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(merged)
}

fn read_file(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let said = |error: io::Error| error.to_string();
    let metadata = fs::metadata(path).map_err(said)?;
    if !metadata.is_file() {
        return Err("not a file".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let bytes = fs::read(path).map_err(said)?;
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    properties::parse(&text).map_err(|error| error.to_string())
}

/// Resolves `HOST:PORT`.
pub(crate) fn resolve_text(text: &str) -> Result<SocketAddr, Error> {
    let refuse =
        || Error::Address { address: text.to_owned(), reason: "HOST:PORT expected".into() };
    let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(refuse());
    }
    resolve(bare.unwrap_or(host), port.parse().map_err(|_| refuse())?)
}

/// Resolves a name; an empty one is every address of the machine.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, Error> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let refuse = |reason: String| Error::Address { address: format!("{host}:{port}"), reason };
    let mut addresses =
        (host, port).to_socket_addrs().map_err(|error| refuse(error.to_string()))?;
    addresses.next().ok_or_else(|| refuse("the name has no address".to_owned()))
}

/// Where the broker is that is started with this file and this process's environment.
pub(crate) fn first_listener(file: Option<&Path>) -> Result<SocketAddr, Error> {
    let (config, _) = load(&Given { file, ..Given::default() })?;
    Ok(reachable(config.listen()))
}

/// Where a socket that listens everywhere is reached from here.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_win() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let file = map(&[("a", "file"), ("b", "file"), ("c", "file")]);
        let environment = map(&[("b", "environment"), ("c", "environment")]);
        let sets = ["c=first".to_owned(), " c =set=x".to_owned()];
        let merged = merge(file, environment, &sets).unwrap();
        assert_eq!(merged, map(&[("a", "file"), ("b", "environment"), ("c", "set=x")]));
    }

    #[test]
    fn a_set_without_a_name_is_refused() {
        for text in ["a", "=b", " =b", ""] {
            let error = merge(BTreeMap::new(), BTreeMap::new(), &[text.to_owned()]).unwrap_err();
            assert!(error.to_string().starts_with("--set"), "{error}");
        }
    }

    #[test]
    fn addresses_are_resolved_or_refused() {
        let good = [("127.0.0.1:1", "127.0.0.1:1"), (":2", "0.0.0.0:2"), ("[::1]:3", "[::1]:3")];
        for (text, expected) in good {
            assert_eq!(resolve_text(text).unwrap().to_string(), expected);
        }
        for text in ["9092", "a:b", "::1:9092", "127.0.0.1:65536", ""] {
            assert!(resolve_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn everywhere_is_reached_here() {
        for (listens, reached) in [
            ("0.0.0.0:9092", "127.0.0.1:9092"),
            ("[::]:9092", "[::1]:9092"),
            ("10.1.2.3:9092", "10.1.2.3:9092"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), reached.parse().unwrap(), "{listens}");
        }
    }
}
