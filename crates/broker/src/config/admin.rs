//! The admin port and the console that it serves.

use super::{ConfigError, Reader};

/// What is served over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// `admin.listen`: where.
    pub port: AdminPort,
    /// `odradek.console`: what is shown to people.
    pub console: Console,
}

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminPort {
    /// Nobody says: [`ADMIN_DEFAULT`] if it is free.
    Usual,
    /// There and nowhere else: `HOST:PORT`.
    At(String),
    /// There is none.
    None,
}

/// What the admin port shows to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// Nobody says: as `Read` where the admin port can be reached from this machine alone, else as
    /// `Off`.
    Usual,
    /// Metrics and health, and nothing that people look at.
    Off,
    /// Topics with their records, groups, settings.
    Read,
    /// The same; and topics are made and deleted, and records sent.
    Write,
}

/// This machine only, and where Redpanda's users look for it.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:9644";

pub(super) fn settings(reader: &Reader<'_>) -> Result<AdminConfig, ConfigError> {
    Ok(AdminConfig { port: port(reader), console: console(reader)? })
}

fn port(reader: &Reader<'_>) -> AdminPort {
    match reader.text("admin.listen") {
        None => AdminPort::Usual,
        Some("none") => AdminPort::None,
        Some(address) => AdminPort::At(address.to_owned()),
    }
}

fn console(reader: &Reader<'_>) -> Result<Console, ConfigError> {
    const NAME: &str = "odradek.console";
    match reader.text(NAME) {
        None | Some("auto") => Ok(Console::Usual),
        Some("off") => Ok(Console::Off),
        Some("read") => Ok(Console::Read),
        Some("write") => Ok(Console::Write),
        Some(_) => Err(reader.refuse(NAME, "auto, off, read or write")),
    }
}
