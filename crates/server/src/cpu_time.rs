//! User and system time of this process and its threads, as the kernel tells it.

use std::{fs, path::Path, time::Duration};

/// Linux shows times in hundredths of a second on every machine.
const TICK: Duration = Duration::from_millis(10);

/// Of this process; `None` where the kernel does not tell.
pub(crate) fn of_process() -> Option<Duration> {
    read(Path::new("/proc/self/stat"))
}

/// Of the process or thread whose `stat` this is.
pub(crate) fn read(stat: &Path) -> Option<Duration> {
    let text = fs::read_to_string(stat).ok()?;
    ticks(&text).map(|ticks| TICK * ticks)
}

fn ticks(stat: &str) -> Option<u32> {
    // The name may have spaces and brackets; what follows its last bracket begins with field 3.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u32>().ok()?.saturating_add(system.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 300 45 12 13";
        for name in ["odradek", "a b", "a) b", "("] {
            assert_eq!(ticks(&format!("77 ({name}) {fields}")), Some(345), "{name}");
        }
        for text in
            ["", "77 odradek", "77 (odradek) S 1 2", "77 (odradek) S 1 2 3 4 5 6 7 8 9 10 x 4"]
        {
            assert_eq!(ticks(text), None, "{text}");
        }
    }

    #[test]
    fn cpu_time_is_read() {
        let before = of_process().unwrap();
        // Some time of work, whatever the machine: without a reading this would never end.
        let passes = (0..100_000).find(|_| {
            std::hint::black_box(vec![1_u8; 1 << 16]);
            of_process().unwrap() > before
        });
        assert!(passes.is_some(), "busy, and no CPU time passes");
    }
}
