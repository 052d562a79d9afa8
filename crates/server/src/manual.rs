//! The manual: a page for each command, made of what its help says.

use std::{fs, io, path::Path};

use clap::Command;
use clap_mangen::Man;

/// How the generator begins what stands behind the options, and ours is examples.
const EXAMPLES: &str = ".SH EXTRA\nExamples:\n";

/// The page of one command.
///
/// # Errors
/// The generator's.
pub(crate) fn page(command: Command) -> io::Result<String> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(with_examples(&String::from_utf8_lossy(&page)))
}

/// Writes the pages of a command and of all below it.
///
/// # Errors
/// Where a file cannot be written.
pub(crate) fn write_all(command: Command, dir: &Path) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write(&command, dir)
}

fn write(command: &Command, dir: &Path) -> io::Result<()> {
    command.get_subcommands().try_for_each(|one| write(one, dir))?;
    let name = Man::new(command.clone()).get_filename();
    fs::write(dir.join(name), page(command.clone())?)
}

/// Examples under a heading of their own, their lines as they are typed.
fn with_examples(page: &str) -> String {
    let Some((before, after)) = page.split_once(EXAMPLES) else { return page.to_owned() };
    let end = after.find("\n.SH ").map_or(after.len(), |at| at + 1);
    let (examples, rest) = after.split_at(end);
    format!("{before}.SH EXAMPLES\n.nf\n{}\n.fi\n{rest}", examples.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_have_a_heading_and_keep_their_lines() {
        let command = |help: &'static str| Command::new("a").version("1").after_help(help);
        let made = page(command("Examples:\n  a b | c\n  a d")).unwrap();
        assert!(
            made.contains("\n.SH EXAMPLES\n.nf\n  a b | c\n  a d\n.fi\n.SH VERSION\n"),
            "{made}"
        );
        let made = page(command("Examples:\n  a b").disable_version_flag(true)).unwrap();
        assert!(made.contains("\n.SH EXAMPLES\n.nf\n  a b\n.fi\n"), "{made}");
        assert!(!page(command("Else")).unwrap().contains("EXAMPLES"));
    }
}
