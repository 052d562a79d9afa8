//! The crate graph of docs/ARCHITECTURE.md, checked against the manifests.
//!
//! An edge that is not drawn is a finding, whether it is a dependency, a build dependency or a
//! dev-dependency: a test that reaches sideways couples two rooms as much as code does. Only
//! crates that exist for development (`sim`, tests, benches, tools) may use what they like.

use super::Finding;

/// A crate and the crates of ours that it may name.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Product,
    /// Dev-dependencies are not judged: nothing that ships can reach through them.
    Development,
}

/// Lowest level first, as the document draws it.
const GRAPH: &[Room] = &[
    Room { name: "model", may_use: &[], kind: Kind::Product },
    Room { name: "runtime", may_use: &[], kind: Kind::Product },
    Room { name: "wire", may_use: &["model"], kind: Kind::Product },
    Room { name: "storage", may_use: &["model", "runtime"], kind: Kind::Product },
    Room { name: "cluster", may_use: &["model"], kind: Kind::Product },
    Room { name: "coordinator", may_use: &["model", "wire"], kind: Kind::Product },
    Room { name: "client", may_use: &["model", "runtime", "wire"], kind: Kind::Product },
    Room {
        name: "broker",
        may_use: &["model", "runtime", "wire", "storage", "cluster", "coordinator"],
        kind: Kind::Product,
    },
    Room {
        name: "server",
        may_use: &["model", "runtime", "wire", "storage", "cluster", "client", "broker"],
        kind: Kind::Product,
    },
    Room { name: "checker", may_use: &[], kind: Kind::Development },
    Room {
        name: "sim",
        may_use: &["model", "runtime", "wire", "storage", "client", "broker", "checker"],
        kind: Kind::Development,
    },
];

/// Packages outside `crates/` that no room may name.
const OUTSIDE: &[&str] = &["tests", "benches", "xtask", "powerblk", "rig", "histories"];

/// The room's name, if `file` is the manifest of one.
pub(super) fn crate_of_manifest(file: &str) -> Option<&str> {
    let name = file.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!name.contains('/')).then_some(name)
}

/// Judges every edge that `manifest`, the text of `file`, draws from `krate`.
pub(super) fn check(krate: &str, file: &str, manifest: &str) -> Vec<Finding> {
    let table: toml::Table = match manifest.parse() {
        Ok(table) => table,
        Err(error) => return vec![Finding::new(file, 0, format!("no manifest: {error}"))],
    };
    let Some(room) = GRAPH.iter().find(|room| room.name == krate) else {
        return vec![Finding::new(file, 0, format!("crate `{krate}` is not drawn in the graph"))];
    };
    let mut findings = Vec::new();
    for (section, dependency) in dependencies(&table) {
        let ours = GRAPH.iter().any(|other| other.name == dependency)
            || OUTSIDE.contains(&dependency.as_str());
        let drawn = room.may_use.contains(&dependency.as_str());
        let exempt = section == "dev-dependencies" && room.kind == Kind::Development;
        if ours && !drawn && !exempt {
            findings.push(Finding::new(
                file,
                0,
                format!("`{krate}` may not depend on `{dependency}` ({section})"),
            ));
        }
    }
    findings
}

/// Every (section, package name) of a manifest, those for one target only included.
fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, String)> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let mut found = Vec::new();
    for table in tables {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(listed) = table.get(section).and_then(toml::Value::as_table) else { continue };
            for (key, value) in listed {
                // A renamed dependency is known by its package, not by its new name.
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                found.push((section, package.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_that_are_not_drawn_are_found() {
        let cases: &[(&str, &str, usize)] = &[
            ("storage", "[dependencies]\nmodel.workspace = true\nbytes = \"1\"\n", 0),
            ("storage", "[dependencies]\nwire.workspace = true\n", 1),
            ("storage", "[dependencies.wire]\npath = \"../wire\"\n", 1),
            ("storage", "[dependencies]\nw = { package = \"wire\", path = \"../wire\" }\n", 1),
            ("storage", "[dev-dependencies]\nwire.workspace = true\n", 1),
            ("storage", "[build-dependencies]\nbroker.workspace = true\n", 1),
            ("storage", "[target.'cfg(unix)'.dependencies]\ncluster.workspace = true\n", 1),
            ("model", "[dependencies]\nruntime.workspace = true\nwire.workspace = true\n", 2),
            ("cluster", "[dev-dependencies]\nsim.workspace = true\n", 1),
            ("broker", "[dependencies]\nxtask = { path = \"../../tools/xtask\" }\n", 1),
            ("sim", "[dependencies]\ncluster.workspace = true\n", 1),
            ("sim", "[dev-dependencies]\ncluster.workspace = true\n", 0),
            ("shed", "", 1),
            ("model", "[dependencies", 1),
        ];
        for (krate, manifest, expected) in cases {
            let findings = check(krate, "crates/x/Cargo.toml", manifest);
            assert_eq!(findings.len(), *expected, "{krate}: {manifest}: {findings:?}");
        }
    }

    #[test]
    fn only_the_manifest_of_a_room_names_a_crate() {
        assert_eq!(crate_of_manifest("crates/wire/Cargo.toml"), Some("wire"));
        for other in ["Cargo.toml", "tools/xtask/Cargo.toml", "crates/wire/fuzz/Cargo.toml"] {
            assert_eq!(crate_of_manifest(other), None, "{other}");
        }
    }
}
