//! `cargo xtask release`: every package, built and checked. Not a stage of the test command: a
//! static build, a Debian root and an engine for containers take minutes, and root.
//!
//! ```text
//!   target/release-packages/
//!     odradek-VERSION-x86_64-linux-musl.tar.gz   binary, unit, settings, manual, completions
//!     odradek_VERSION_amd64.deb                  the same, as a service
//!     odradek-VERSION-image.tar.gz               for `docker load`; made by tests/packages
//!     SHA256SUMS
//! ```
//! The packages hold nothing of when and where they were made: their times are the last commit's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::docker::{self, Engine};
use crate::needs::{self, Need, Origin};
use crate::rigs::finish;
use crate::test::target_folder;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const ARCHITECTURE: &str = "amd64";

const NEEDS: &[Need] = &[
    Need { program: "python3", from: Origin::Package("python3") },
    Need { program: "git", from: Origin::Package("git") },
    Need { program: "gzip", from: Origin::Package("gzip") },
    Need { program: "dpkg-deb", from: Origin::Package("dpkg") },
    Need { program: "lintian", from: Origin::Package("lintian") },
    Need { program: "mmdebstrap", from: Origin::Package("mmdebstrap") },
    Need { program: "strace", from: Origin::Package("strace") },
    Need { program: "systemd-analyze", from: Origin::Package("systemd") },
];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A static binary that is there already
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Start an engine for the image, or take the one that `docker` talks to
    #[arg(long, value_enum, default_value_t = Engine::Own)]
    engine: Engine,
    /// Check parts only: unit, deb, tar, image; repeatable
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

/// Builds the packages and runs tests/packages.
///
/// # Errors
/// When something is missing or does not build, or a check failed.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    if !needs::is_root() {
        return Err("the package is installed into a root of its own, which needs root".to_owned());
    }
    needs::ensure(NEEDS)?;
    docker::ensure(options.engine)?;
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary).map_err(|error| error.to_string())?,
        None => docker::static_build(root)?,
    };
    let builder = Builder::new(root, binary)?;
    builder.tar()?;
    builder.deb()?;
    let mut check = Command::new("python3");
    check.arg("tests/packages/run.py").arg("--packages").arg(&builder.packages);
    check.arg("--binary").arg(&builder.binary).args(["--engine", options.engine.word()]);
    check.args(options.only.iter().flat_map(|part| ["--only", part]));
    finish(check.current_dir(root), "packages")?;
    builder.sums()
}

struct Builder<'a> {
    root: &'a Path,
    /// Without its symbols.
    binary: PathBuf,
    packages: PathBuf,
    /// Of the last commit, in seconds since 1970.
    time: String,
}

impl Builder<'_> {
    fn new(root: &Path, built: PathBuf) -> Result<Builder<'_>, String> {
        let packages = target_folder(root).join("release-packages");
        if packages.exists() {
            fs::remove_dir_all(&packages).map_err(said(&packages))?;
        }
        let binary = packages.join("tree").join("odradek");
        make_folder(binary.parent().expect("it has one"))?;
        fs::copy(&built, &binary).map_err(said(&built))?;
        finish(Command::new("strip").arg(&binary), "strip")?;
        let time = output(Command::new("git").args(["log", "-1", "--format=%ct"]), root)?;
        Ok(Builder { root, binary, packages, time: time.trim().to_owned() })
    }

    /// What people install by hand.
    fn tar(&self) -> Result<(), String> {
        let name = format!("odradek-{VERSION}-x86_64-linux-musl");
        let tree = self.packages.join("tree").join(&name);
        self.put("LICENSE", &tree.join("LICENSE"))?;
        self.put("CHANGELOG.md", &tree.join("CHANGELOG.md"))?;
        self.put("docs/OPERATING.md", &tree.join("OPERATING.md"))?;
        self.put("packaging/odradek.service", &tree.join("odradek.service"))?;
        self.put("packaging/debian/server.properties", &tree.join("server.properties"))?;
        self.executable(&tree.join("odradek"))?;
        self.manual(&tree.join("man"))?;
        for shell in ["bash", "zsh", "fish"] {
            self.says(&["completions", shell], &tree.join(format!("completions/odradek.{shell}")))?;
        }
        let mut tar = Command::new("tar");
        tar.args([
            "--create",
            "--use-compress-program=gzip -9n",
            "--sort=name",
            "--owner=0",
            "--group=0",
        ]);
        tar.args(["--numeric-owner", &format!("--mtime=@{}", self.time), "--file"]);
        tar.arg(self.packages.join(format!("{name}.tar.gz"))).arg(&name);
        finish(tar.current_dir(self.packages.join("tree")), "tar")
    }

    /// What Debian and its relatives install.
    fn deb(&self) -> Result<(), String> {
        let tree = self.packages.join("tree").join("deb");
        let documents = tree.join("usr/share/doc/odradek");
        self.executable(&tree.join("usr/bin/odradek"))?;
        self.put("packaging/odradek.service", &tree.join("lib/systemd/system/odradek.service"))?;
        let settings = tree.join("etc/odradek/server.properties");
        self.put("packaging/debian/server.properties", &settings)?;
        self.put("packaging/debian/copyright", &documents.join("copyright"))?;
        let overrides = tree.join("usr/share/lintian/overrides/odradek");
        self.put("packaging/debian/lintian-overrides", &overrides)?;
        let manual = tree.join("usr/share/man/man1");
        let pages = self.manual(&manual)?;
        let completions = tree.join("usr/share");
        self.says(
            &["completions", "bash"],
            &completions.join("bash-completion/completions/odradek"),
        )?;
        self.says(&["completions", "zsh"], &completions.join("zsh/vendor-completions/_odradek"))?;
        let fish = completions.join("fish/vendor_completions.d/odradek.fish");
        self.says(&["completions", "fish"], &fish)?;
        let changelog = documents.join("changelog");
        self.write_changelog(&changelog)?;
        finish(Command::new("gzip").arg("-9n").args(&pages).arg(&changelog), "gzip")?;
        self.write_control(&tree)?;
        let mut build = Command::new("dpkg-deb");
        build.args(["--build", "--root-owner-group", "-Zxz"]).arg(&tree);
        build.arg(self.packages.join(format!("odradek_{VERSION}_{ARCHITECTURE}.deb")));
        finish(build.env("SOURCE_DATE_EPOCH", &self.time), "dpkg-deb")
    }

    fn write_changelog(&self, path: &Path) -> Result<(), String> {
        let date = output(
            Command::new("date").args(["-Ru", "-d", &format!("@{}", self.time)]),
            self.root,
        )?;
        let maintainer = self.maintainer()?;
        let text = format!(
            "odradek ({VERSION}) stable; urgency=medium\n\n  * What is new stands in CHANGELOG.md.\n\n -- {maintainer}  {date}"
        );
        fs::write(path, text).map_err(said(path))
    }

    fn maintainer(&self) -> Result<String, String> {
        let control = self.read("packaging/debian/control")?;
        let line = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
        line.map(str::to_owned).ok_or_else(|| "the control file names no maintainer".to_owned())
    }

    fn write_control(&self, tree: &Path) -> Result<(), String> {
        let size =
            output(Command::new("du").args(["--apparent-size", "-sk"]).arg(tree), self.root)?;
        let size = size.split_whitespace().next().unwrap_or_default();
        let control = self.read("packaging/debian/control")?;
        let control = control.replace("{version}", VERSION).replace("{architecture}", ARCHITECTURE);
        let folder = tree.join("DEBIAN");
        make_folder(&folder)?;
        let write =
            |name: &str, text: &str| fs::write(folder.join(name), text).map_err(said(&folder));
        write("control", &control.replace("{size}", size))?;
        write("conffiles", "/etc/odradek/server.properties\n")?;
        let mut sums = Command::new("sh");
        sums.args(["-c", "find * -path DEBIAN -prune -o -type f -print | sort | xargs md5sum"]);
        write("md5sums", &output(&mut sums, tree)?)?;
        for script in ["postinst", "prerm", "postrm"] {
            self.put(&format!("packaging/debian/{script}"), &folder.join(script))?;
            set_mode(&folder.join(script), 0o755)?;
        }
        Ok(())
    }

    /// The sums of all packages, when all are there.
    fn sums(&self) -> Result<(), String> {
        fs::remove_dir_all(self.packages.join("tree")).map_err(said(&self.packages))?;
        let mut sums = Command::new("sh");
        let text = output(sums.args(["-c", "sha256sum odradek*"]), &self.packages)?;
        let path = self.packages.join("SHA256SUMS");
        fs::write(&path, &text).map_err(said(&path))?;
        print!("{text}");
        Ok(())
    }

    fn read(&self, name: &str) -> Result<String, String> {
        let path = self.root.join(name);
        fs::read_to_string(&path).map_err(said(&path))
    }

    fn put(&self, name: &str, to: &Path) -> Result<(), String> {
        make_folder(to.parent().expect("a file is in a folder"))?;
        fs::copy(self.root.join(name), to).map_err(said(to))?;
        set_mode(to, 0o644)
    }

    fn executable(&self, to: &Path) -> Result<(), String> {
        make_folder(to.parent().expect("a file is in a folder"))?;
        fs::copy(&self.binary, to).map_err(said(to))?;
        set_mode(to, 0o755)
    }

    /// The manual: a page for each command.
    fn manual(&self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        make_folder(folder)?;
        output(Command::new(&self.binary).args(["man", "--dir"]).arg(folder), self.root)?;
        let entries = fs::read_dir(folder).map_err(said(folder))?;
        let pages: Result<Vec<_>, _> = entries.map(|entry| entry.map(|one| one.path())).collect();
        let pages = pages.map_err(said(folder))?;
        pages.iter().try_for_each(|page| set_mode(page, 0o644))?;
        Ok(pages)
    }

    /// What the binary says of itself, into a file.
    fn says(&self, words: &[&str], to: &Path) -> Result<(), String> {
        make_folder(to.parent().expect("a file is in a folder"))?;
        let text = output(Command::new(&self.binary).args(words), self.root)?;
        fs::write(to, text).map_err(said(to))?;
        set_mode(to, 0o644)
    }
}

/// Whatever the umask is: folders of packages are for everybody.
fn make_folder(path: &Path) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    make_folder(path.parent().expect("the root is there"))?;
    fs::create_dir(path).map_err(said(path))?;
    set_mode(path, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(said(path))
}

fn said(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

fn output(command: &mut Command, folder: &Path) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.current_dir(folder).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{name}: {error}"))
}
