//! The settings of a subscription to clients' metrics (KIP-714), as they are checked and kept.

use model::topic_config::{Kind, Setting};

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
        "match" => {
            let patterns = value.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
            for pattern in patterns {
                // Two parts, as Java splits: what is empty at the end is none.
                let mut parts = pattern.trim_end_matches('=').split('=').map(str::trim);
                let (word, expression, more) = (parts.next(), parts.next(), parts.next());
                let word = word.filter(|_| expression.is_some() && more.is_none());
                if !word.is_some_and(|word| CLIENT_WORDS.contains(&word)) {
                    let pattern = pattern.escape_default();
                    let why = format!("Illegal client matching pattern: {pattern}");
                    return Err(Error::InvalidConfig(why));
                }
            }
            Ok(())
        }
        // The prefixes of metrics' names can be any.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
