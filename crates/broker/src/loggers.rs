//! The levels of the process's log, as settings of resources of type BROKER_LOGGER. As in Apache
//! Kafka they are altered at once, for as long as the process runs, and nobody writes them down.

use cluster::controller::ConfigOperation;
use model::NodeId;

/// How much of a logger's lines is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// None: nothing here is logged at that level.
    Fatal,
    /// What went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happens.
    Info,
    /// And what led to it.
    Debug,
    /// And everything else.
    Trace,
}

/// Every level, by name as Apache Kafka's list of them has it.
const LEVELS: [(&str, Level); 6] = [
    ("DEBUG", Level::Debug),
    ("ERROR", Level::Error),
    ("FATAL", Level::Fatal),
    ("INFO", Level::Info),
    ("TRACE", Level::Trace),
    ("WARN", Level::Warn),
];

impl Level {
    /// As clients write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let (name, _) =
            LEVELS.into_iter().find(|(_, level)| *level == self).expect("all are there");
        name
    }

    fn named(name: &str) -> Option<Level> {
        LEVELS.into_iter().find(|(known, _)| *known == name).map(|(_, level)| level)
    }
}

/// What every logger without a level of its own goes by.
pub const ROOT: &str = "root";

/// The loggers of the process, which belong to whoever started it.
pub trait Loggers: Send + Sync {
    /// Every logger with the level that it goes by, [`ROOT`] among them.
    fn levels(&self) -> Vec<(&'static str, Level)>;

    /// Gives these loggers levels, or takes theirs: then they go by what they are part of.
    fn set(&self, changes: &[(String, Option<Level>)]);
}

/// The log of a process that is not altered by clients, as the simulator's: the root logger, at level
/// INFO.
#[derive(Clone, Copy, Debug)]
pub struct RootAlone;

impl Loggers for RootAlone {
    fn levels(&self) -> Vec<(&'static str, Level)> {
        vec![(ROOT, Level::Info)]
    }

    fn set(&self, _: &[(String, Option<Level>)]) {}
}

/// Which levels are to be altered.
///
/// # Errors
/// The first thing that is wrong, in Apache Kafka's order.
pub(crate) fn changes(
    loggers: &dyn Loggers,
    operations: &[(&str, Option<ConfigOperation>)],
) -> Result<Vec<(String, Option<Level>)>, cluster::Error> {
    use cluster::Error::{InvalidConfig, InvalidRequest};
    let levels = loggers.levels();
    let mut changes = Vec::with_capacity(operations.len());
    for (index, (name, operation)) in operations.iter().enumerate() {
        if operations[..index].iter().any(|(other, _)| other == name) {
            return Err(InvalidRequest("Error due to duplicate config keys".to_owned()));
        }
        if operation.is_none() {
            let shown = name.escape_default();
            return Err(InvalidRequest(format!("no operation, or no value for it: {shown}")));
        }
    }
    for (name, operation) in operations {
        let shown = name.escape_default();
        let must_exist = || {
            let exists = levels.iter().any(|(known, _)| known == name);
            let unknown = || InvalidConfig(format!("Logger {shown} does not exist!"));
            exists.then_some(()).ok_or_else(unknown)
        };
        let cannot = |what: &str| {
            let why = format!("{what} operation is not allowed for the BROKER_LOGGER resource");
            Err(InvalidRequest(why))
        };
        let level = match operation.as_ref().expect("seen above") {
            ConfigOperation::Set(value) => {
                must_exist()?;
                let level = Level::named(value).ok_or_else(|| {
                    let valid = LEVELS.map(|(name, _)| name).join(", ");
                    InvalidConfig(format!(
                        "Cannot set the log level of {shown} to {} as it is not a supported log \
                         level. Valid log levels are {valid}",
                        value.escape_default()
                    ))
                })?;
                Some(level)
            }
            ConfigOperation::Delete => {
                must_exist()?;
                if *name == ROOT {
                    let why = "Removing the log level of the root logger is not allowed";
                    return Err(InvalidRequest(why.to_owned()));
                }
                None
            }
            ConfigOperation::Append(_) => return cannot("APPEND"),
            ConfigOperation::Subtract(_) => return cannot("SUBTRACT"),
        };
        changes.push(((*name).to_owned(), level));
    }
    Ok(changes)
}

/// Whether a resource is this node.
///
/// # Errors
/// Says which one is.
pub(crate) fn check_node(node: NodeId, name: &str) -> Result<(), cluster::Error> {
    let shown = name.escape_default();
    let refusal = match name.parse().map(NodeId) {
        Ok(named) if named == node => return Ok(()),
        Ok(_) => format!("Unexpected node id. Expected {node}, but received {shown}"),
        Err(_) => format!("Node id must be an integer, but it is: {shown}"),
    };
    Err(cluster::Error::InvalidRequest(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Loggers for Fixed {
        fn levels(&self) -> Vec<(&'static str, Level)> {
            vec![(ROOT, Level::Info), ("broker", Level::Debug)]
        }

        fn set(&self, _: &[(String, Option<Level>)]) {}
    }

    #[test]
    fn levels_are_set_and_taken_or_refused_in_apache_kafkas_words() {
        use ConfigOperation::{Append, Delete, Set, Subtract};
        let set = |value: &str| Some(Set(value.to_owned()));
        type Asked = Vec<(&'static str, Option<ConfigOperation>)>;
        let cases: [(Asked, Result<usize, &str>); 15] = [
            (vec![], Ok(0)),
            (vec![("root", set("FATAL")), ("broker", Some(Delete))], Ok(2)),
            (vec![("broker", set("debug"))], Err("not a supported log level")),
            (vec![("broker", set(""))], Err("not a supported log level")),
            (vec![("broker", set("OFF"))], Err("not a supported log level")),
            (vec![("nope", set("LOUD"))], Err("Logger nope does not exist!")),
            (vec![("nope", Some(Delete))], Err("Logger nope does not exist!")),
            (vec![("root", Some(Delete))], Err("Removing the log level of the root logger")),
            (vec![("broker", Some(Append("INFO".to_owned())))], Err("APPEND operation")),
            (vec![("nope", Some(Subtract("INFO".to_owned())))], Err("SUBTRACT operation")),
            (vec![("broker", None)], Err("no operation, or no value for it: broker")),
            (vec![("broker", set("INFO")), ("nope", set("INFO"))], Err("does not exist")),
            (vec![("nope", set("INFO")), ("broker", None)], Err("no operation")),
            (vec![("broker", set("INFO")), ("broker", set("WARN"))], Err("duplicate config keys")),
            (vec![("broker", set(" INFO "))], Err("not a supported log level")),
        ];
        for (operations, expected) in cases {
            match (changes(&Fixed, &operations), expected) {
                (Ok(changes), Ok(count)) => assert_eq!(changes.len(), count, "{operations:?}"),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{operations:?}: {error}");
                }
                (other, _) => panic!("{operations:?}: {other:?}"),
            }
        }
        let taken = changes(&Fixed, &[("broker", Some(Delete)), ("root", set("WARN"))]).unwrap();
        assert_eq!(taken, [("broker".to_owned(), None), ("root".to_owned(), Some(Level::Warn))]);
    }

    #[test]
    fn the_resource_is_this_node() {
        check_node(NodeId(7), "7").unwrap();
        for name in ["8", "x", ""] {
            check_node(NodeId(7), name).expect_err(name);
        }
    }
}
