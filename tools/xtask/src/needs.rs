//! Programs that a command runs and a fresh machine may lack.
//!
//! They come from the ordinary registries when this process may install them (as root, through
//! apt-get; Rust's own through rustup), else one line names the package.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) program: &'static str,
    pub(crate) from: Origin,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// A package of Debian and its relatives.
    Package(&'static str),
    /// A component of the Rust toolchain.
    Toolchain(&'static str),
}

/// System programs stand outside the PATH of some users.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Makes sure that every program of `needs` is there.
///
/// # Errors
/// One line that names what is missing and how to get it.
pub(crate) fn ensure(needs: &[Need]) -> Result<(), String> {
    for need in needs.iter().filter(|need| !is_there(need.program)) {
        let (name, install) = match need.from {
            Origin::Package(package) => (package, vec!["apt-get", "install", "-y", "-q", package]),
            Origin::Toolchain(name) => (name, vec!["rustup", "component", "add", name]),
        };
        let may_install = matches!(need.from, Origin::Toolchain(_)) || is_root();
        let installed = may_install && is_there(install[0]) && {
            // A fresh image has no package lists yet.
            (install[0] != "apt-get" || run(&["apt-get", "update", "-q"])) && run(&install)
        };
        if !installed || !is_there(need.program) {
            let how = install.join(" ");
            return Err(format!("missing program `{}` ({name}): {how}", need.program));
        }
    }
    Ok(())
}

/// Whether this process may mount and attach devices.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = |line: &str| line.split_whitespace().nth(2).map(str::to_owned);
    status.lines().find(|line| line.starts_with("Uid:")).and_then(effective).as_deref() == Some("0")
}

fn is_there(program: &str) -> bool {
    let path = env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(SYSTEM_FOLDERS.split(':'))
        .any(|folder| Path::new(folder).join(program).is_file())
}

fn run(words: &[&str]) -> bool {
    let status = Command::new(words[0])
        .args(&words[1..])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
