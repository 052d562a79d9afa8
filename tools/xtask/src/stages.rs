//! The stages of `cargo xtask test`, in order: the one table to extend when a room gets tests of
//! its own kind.

use crate::needs::{Need, Origin};

/// One step of the whole check.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// The file whose existence brings the stage to life.
    pub(crate) room: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) privilege: Privilege,
    pub(crate) count: Count,
    /// The program's words; `{binary}` stands for the release build of `odradek`.
    pub(crate) words: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    Anybody,
    /// Mounts file systems: named, and left out, where that is not allowed.
    Root,
}

/// How a stage's output becomes a number of passed and failed checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// It passes or fails as one.
    Whole,
    /// Every line with `N passed` and `N failed` adds up.
    Sum,
    /// The last such line is the sum.
    Last,
}

const PYTHON: Need = Need { program: "python3", from: Origin::Package("python3") };

pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "format",
        room: "Cargo.toml",
        needs: &[Need { program: "cargo-fmt", from: Origin::Toolchain("rustfmt") }],
        privilege: Privilege::Anybody,
        count: Count::Whole,
        words: &["cargo", "fmt", "--all", "--check"],
    },
    Stage {
        name: "clippy",
        room: "Cargo.toml",
        needs: &[Need { program: "cargo-clippy", from: Origin::Toolchain("clippy") }],
        privilege: Privilege::Anybody,
        count: Count::Whole,
        words: &[
            "cargo",
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    },
    Stage {
        name: "tidy",
        room: "tools/xtask/src/tidy.rs",
        needs: &[Need { program: "git", from: Origin::Package("git") }],
        privilege: Privilege::Anybody,
        count: Count::Whole,
        words: &["xtask", "tidy"],
    },
    Stage {
        name: "codegen",
        room: "tools/xtask/src/codegen.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Whole,
        words: &["xtask", "codegen", "--check"],
    },
    Stage {
        name: "compatibility",
        room: "tools/compatibility/src/main.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Whole,
        words: &["xtask", "compatibility", "--check"],
    },
    Stage {
        name: "tests",
        room: "Cargo.toml",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &["cargo", "test", "--locked", "--workspace", "--no-fail-fast"],
    },
    Stage {
        name: "release build",
        room: "crates/server/src/main.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Whole,
        words: &["cargo", "build", "--locked", "--release", "--package", "server"],
    },
    Stage {
        name: "simulator",
        room: "crates/sim/src/main.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Whole,
        words: &["xtask", "sim", "--seeds", "50"],
    },
    Stage {
        name: "simulator features",
        room: "crates/sim/src/scenario/features.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Last,
        // Two of them once failed, when a log was closed while records were deleted.
        words: &["xtask", "sim", "--seed", "1741", "--seeds", "50", "--features"],
    },
    Stage {
        name: "mutants",
        room: "tools/xtask/src/mutants.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Last,
        // Each takes a build: the rest is left to `cargo xtask mutants`.
        words: &[
            "xtask",
            "mutants",
            "--only",
            "mutant_ack_before_fdatasync",
            "--only",
            "mutant_no_directory_sync",
            "--only",
            "mutant_fdatasync_retried_after_error",
            "--only",
            "mutant_stale_index_believed",
        ],
    },
    Stage {
        name: "compat uring",
        room: "tests/compat/run.py",
        needs: &[PYTHON],
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["python3", "tests/compat/run.py", "--broker", "{binary}", "--driver", "uring"],
    },
    Stage {
        name: "compat sync",
        room: "tests/compat/run.py",
        needs: &[PYTHON],
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["python3", "tests/compat/run.py", "--broker", "{binary}", "--driver", "sync"],
    },
    Stage {
        name: "tools",
        room: "tests/compat/tools.py",
        needs: &[PYTHON],
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["python3", "tests/compat/tools.py", "--broker", "{binary}", "--driver", "uring"],
    },
    Stage {
        name: "interop uring",
        room: "tests/interop/run.py",
        needs: &[PYTHON],
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["python3", "tests/interop/run.py", "--broker", "{binary}", "--driver", "uring"],
    },
    Stage {
        name: "interop sync",
        room: "tests/interop/run.py",
        needs: &[PYTHON],
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["python3", "tests/interop/run.py", "--broker", "{binary}", "--driver", "sync"],
    },
    Stage {
        name: "differential uring",
        room: "tests/interop/differential.py",
        needs: &[PYTHON],
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &[
            "python3",
            "tests/interop/differential.py",
            "--broker",
            "{binary}",
            "--driver",
            "uring",
        ],
    },
    Stage {
        name: "differential sync",
        room: "tests/interop/differential.py",
        needs: &[PYTHON],
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &[
            "python3",
            "tests/interop/differential.py",
            "--broker",
            "{binary}",
            "--driver",
            "sync",
        ],
    },
    Stage {
        name: "crash selftest",
        room: "tools/rig/src/selftest.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "selftest"],
    },
    Stage {
        name: "kill uring",
        room: "crates/broker/src/start.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "kill", "--driver", "uring", "--cycles", "6"],
    },
    Stage {
        name: "kill sync",
        room: "crates/broker/src/start.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "kill", "--driver", "sync", "--cycles", "4"],
    },
    Stage {
        name: "inflight uring",
        room: "crates/broker/src/start.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "inflight", "--driver", "uring", "--cycles", "2"],
    },
    Stage {
        name: "inflight sync",
        room: "crates/broker/src/start.rs",
        needs: &[],
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "inflight", "--driver", "sync", "--cycles", "2"],
    },
    Stage {
        name: "godown uring",
        room: "crates/broker/src/start.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "godown", "--driver", "uring", "--cycles", "4"],
    },
    Stage {
        name: "full uring",
        room: "tools/rig/src/full.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "full", "--driver", "uring"],
    },
    Stage {
        name: "full sync",
        room: "tools/rig/src/full.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "full", "--driver", "sync"],
    },
    Stage {
        name: "eio uring",
        room: "tools/rig/src/eio.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &[
            "xtask",
            "crash",
            "--rig",
            "eio",
            "--driver",
            "uring",
            "--cycles",
            "3",
            "--file-system",
            "xfs",
        ],
    },
    Stage {
        name: "eio sync",
        room: "tools/rig/src/eio.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &[
            "xtask",
            "crash",
            "--rig",
            "eio",
            "--driver",
            "sync",
            "--cycles",
            "3",
            "--file-system",
            "xfs",
        ],
    },
    Stage {
        name: "powerblk uring",
        room: "crates/broker/src/start.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "powerblk", "--driver", "uring", "--cycles", "10"],
    },
    Stage {
        name: "powerblk sync",
        room: "crates/broker/src/start.rs",
        needs: &[],
        privilege: Privilege::Root,
        count: Count::Sum,
        words: &["xtask", "crash", "--rig", "powerblk", "--driver", "sync", "--cycles", "10"],
    },
];
