//! Subscriptions to clients' metrics (KIP-714): their settings, as they are checked and kept, and
//! what they ask of a client.

use std::net::IpAddr;

use model::{
    Uuid,
    collections::{BTreeMap, BTreeSet},
    topic_config::{Kind, Setting},
};
use regex::{Regex, RegexBuilder};

use crate::Error;

/// What a client is known by: the words that a pattern of `match` may begin with.
const CLIENT_WORDS: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];
/// Memory that a compiled expression may take: enough for any list of names that somebody writes
/// by hand.
const COMPILED_BYTES_MAX: usize = 256 << 10;
const INTERVAL_DEFAULT_MS: i32 = 300_000;
const INTERVAL_MIN_MS: i32 = 100;
const INTERVAL_MAX_MS: i32 = 3_600_000;

/// The settings, in alphabetical order.
pub const SETTINGS: [Setting; 3] = [
    setting("interval.ms", Kind::Int(i32::MIN, i32::MAX), "300000"),
    setting("match", Kind::List, ""),
    setting("metrics", Kind::List, ""),
];

const fn setting(name: &'static str, kind: Kind, default: &'static str) -> Setting {
    Setting { name, kind, default, server_name: "" }
}

/// The setting of this name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Setting, Error> {
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
        let name = name.escape_default();
        Error::InvalidRequest(format!("Unknown client metrics configuration: {name}"))
    })
}

/// Checks a value.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(name: &str, value: &str) -> Result<(), Error> {
    match find(name)?.name {
        "interval.ms" => {
            let interval: i32 = value.trim().parse().map_err(|_| {
                Error::InvalidConfig(format!(
                    "Invalid value {value} for configuration {name}: Not a number of type INT"
                ))
            })?;
            if (INTERVAL_MIN_MS..=INTERVAL_MAX_MS).contains(&interval) {
                return Ok(());
            }
            Err(Error::InvalidRequest(format!(
                "Invalid value {interval} for interval.ms, interval must be between \
                 {INTERVAL_MIN_MS} and {INTERVAL_MAX_MS} (1 hour)"
            )))
        }
        "match" => patterns(value).map(drop),
        // The prefixes of metrics' names can be any.
        _ => Ok(()),
    }
}

/// The expressions of `match`, by what of a client has to match. As in Apache Kafka, the last one
/// of a word counts.
fn patterns(value: &str) -> Result<BTreeMap<&'static str, Regex>, Error> {
    let refuse = |why: &str, pattern: &str| {
        Err(Error::InvalidConfig(format!("{why}: {}", pattern.escape_default())))
    };
    let mut found = BTreeMap::new();
    for pattern in list(value) {
        // Two parts, as Java splits: what is empty at the end is none.
        let parts: Vec<&str> = pattern.trim_end_matches('=').split('=').map(str::trim).collect();
        let &[word, expression] = parts.as_slice() else {
            return refuse("Illegal client matching pattern", pattern);
        };
        let Some(word) = CLIENT_WORDS.into_iter().find(|known| *known == word) else {
            return refuse("Illegal client matching pattern", pattern);
        };
        let Ok(expression) = compile(expression) else {
            return refuse("Unable to compile client matching pattern", pattern);
        };
        found.insert(word, expression);
    }
    Ok(found)
}

/// An expression that has to match a whole text.
fn compile(expression: &str) -> Result<Regex, regex::Error> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build();
    // Checked by itself, for `a)|(?:b` would be sound within the brackets.
    build(expression)?;
    build(&format!(r"\A(?:{expression})\z"))
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// A client, as the patterns know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The id that the client was given for its metrics.
    pub instance: Uuid,
    /// What it calls itself.
    pub id: String,
    /// What its program calls itself.
    pub software_name: String,
    /// And its version.
    pub software_version: String,
    /// Where it connects from.
    pub address: IpAddr,
    /// And with which port.
    pub port: u16,
}

impl Client {
    fn text(&self, word: &str) -> String {
        match word {
            "client_id" => self.id.clone(),
            "client_instance_id" => self.instance.to_string(),
            "client_software_name" => self.software_name.clone(),
            "client_software_version" => self.software_version.clone(),
            "client_source_address" => self.address.to_string(),
            _ => self.port.to_string(),
        }
    }
}

/// A subscription, ready to be matched.
#[derive(Clone, Debug)]
pub struct Subscription {
    metrics: BTreeSet<String>,
    interval_ms: i32,
    patterns: BTreeMap<&'static str, Regex>,
}

impl Subscription {
    /// Reads the settings of one. What cannot be read, since Apache Kafka has taken it and this
    /// does not, is as by default; with such a pattern it is nobody's.
    #[must_use]
    pub fn new<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Subscription> {
        let settings: BTreeMap<&str, &str> = settings.collect();
        let interval = settings.get("interval.ms").and_then(|value| value.trim().parse().ok());
        let text = |name| settings.get(name).copied().unwrap_or_default();
        Some(Subscription {
            metrics: list(text("metrics")).map(str::to_owned).collect(),
            interval_ms: interval.unwrap_or(INTERVAL_DEFAULT_MS),
            patterns: patterns(text("match")).ok()?,
        })
    }

    fn matches(&self, client: &Client) -> bool {
        self.patterns.iter().all(|(word, expression)| expression.is_match(&client.text(word)))
    }
}

/// What a client is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The prefixes of the names of metrics; [`ALL_METRICS`] alone for all, none for none.
    pub metrics: BTreeSet<String>,
    /// How often.
    pub interval_ms: i32,
}

/// Stands for every metric.
pub const ALL_METRICS: &str = "*";

/// What the subscriptions together want of a client.
#[must_use]
pub fn wanted(subscriptions: &[Subscription], client: &Client) -> Wanted {
    let mut wanted = Wanted { metrics: BTreeSet::new(), interval_ms: INTERVAL_DEFAULT_MS };
    for one in subscriptions.iter().filter(|one| one.matches(client)) {
        wanted.metrics.extend(one.metrics.iter().cloned());
        wanted.interval_ms = wanted.interval_ms.min(one.interval_ms);
    }
    if wanted.metrics.contains(ALL_METRICS) {
        wanted.metrics = BTreeSet::from([ALL_METRICS.to_owned()]);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_for_what_its_subscriptions_want_together() {
        let client = Client {
            instance: Uuid([7; 16]),
            id: "orders-1".to_owned(),
            software_name: "librdkafka".to_owned(),
            software_version: "2.12.1".to_owned(),
            address: "10.0.0.7".parse().unwrap(),
            port: 4711,
        };
        let check = |all: &[&[(&str, &str)]], metrics: &[&str], interval_ms: i32| {
            let subscriptions = all.iter().map(|one| Subscription::new(one.iter().copied()));
            let subscriptions: Vec<_> = subscriptions.map(Option::unwrap).collect();
            let metrics = metrics.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(wanted(&subscriptions, &client), Wanted { metrics, interval_ms }, "{all:?}");
        };
        check(&[], &[], 300_000);
        check(&[&[("metrics", "a, b")]], &["a", "b"], 300_000);
        let other = [("metrics", "c"), ("match", "client_id=orders"), ("interval.ms", "100")];
        check(&[&other, &[("metrics", "b")]], &["b"], 300_000);
        let own = [
            ("metrics", "a"),
            ("match", "client_id=orders-.*,client_source_port=47[0-9]+"),
            ("interval.ms", "2000"),
        ];
        check(&[&own, &[("metrics", "b")]], &["a", "b"], 2000);
        check(&[&own, &[("metrics", "*,b"), ("interval.ms", "400000")]], &["*"], 2000);
        for (word, expression, matches) in [
            ("client_instance_id", "BwcHBwcHBwcHBwcHBwcHBw", true),
            ("client_software_name", "lib.+", true),
            ("client_software_version", "2[.]12", false),
            ("client_source_address", r"10[.]0[.]0[.]\d", true),
        ] {
            let pattern = format!("{word}={expression}");
            let metrics: &[&str] = if matches { &["a"] } else { &[] };
            check(&[&[("metrics", "a"), ("match", &pattern)]], metrics, 300_000);
        }
    }

    #[test]
    fn what_no_subscription_can_be_is_refused() {
        let cases = [
            ("interval.ms", "100", ""),
            ("interval.ms", "3600000", ""),
            ("interval.ms", "99", "interval must be between"),
            ("interval.ms", "3600001", "interval must be between"),
            ("interval.ms", "x", "Not a number"),
            ("match", "", ""),
            ("match", "client_id=a.*,client_source_port=[0-9]+", ""),
            ("match", "client_id", "Illegal client matching pattern"),
            ("match", "client_id=a,nope=b", "Illegal client matching pattern: nope=b"),
            ("match", "client_id=a=b", "Illegal client matching pattern: client_id=a=b"),
            ("match", "client_id=a=", ""),
            ("match", "client_id=", "Illegal client matching pattern: client_id="),
            ("match", "client_id=[", "Unable to compile client matching pattern: client_id=["),
            ("match", "client_id=a)|(b", "Unable to compile client matching pattern"),
            ("metrics", "*", ""),
            ("nope", "1", "Unknown client metrics configuration: nope"),
        ];
        for (name, value, refusal) in cases {
            match check(name, value) {
                Ok(()) => assert_eq!(refusal, "", "{name}={value}"),
                Err(error) => {
                    let is_expected = !refusal.is_empty() && error.to_string().contains(refusal);
                    assert!(is_expected, "{name}={value}: {error}");
                }
            }
        }
    }
}
