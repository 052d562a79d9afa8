//! Why a node does not start or has to stop. The text is for people: one line.

use std::{fmt, net::SocketAddr, path::PathBuf};

use runtime::Errno;

/// What keeps a node from running.
#[derive(Debug)]
pub enum Error {
    /// A file or directory.
    Io {
        /// Which.
        path: PathBuf,
        /// The operating system's answer.
        errno: Errno,
    },
    /// The log directory or a log in it.
    Storage(storage::Error),
    /// The metadata: a directory that is not this node's, or a decision that cannot be made.
    Cluster(cluster::Error),
    /// The metadata log holds what is not understood.
    Metadata(String),
    /// The address cannot be listened on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// The operating system's answer.
        errno: Errno,
    },
    /// A partition cannot be opened.
    Partition(String),
    /// A setting contradicts the directory.
    Config(String),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> Error {
        let path = path.into();
        move |errno| Error::Io { path, errno }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, errno } => write!(formatter, "{}: {errno}", path.display()),
            Error::Storage(error) => error.fmt(formatter),
            Error::Cluster(error) => error.fmt(formatter),
            Error::Metadata(what) => write!(formatter, "the metadata log: {what}"),
            Error::Listen { address, errno } => {
                write!(formatter, "cannot listen on {address}: {errno}")
            }
            Error::Partition(what) | Error::Config(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
