//! Kafka's small text files of numbers: `0`, the number of lines, the lines.

/// The lines of a checkpoint, their number and the version checked. `None` when it makes no sense.
/// No memory is reserved by the number that the file claims.
pub(crate) fn lines(content: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.lines();
    if lines.next()?.trim() != "0" {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    (lines.len() == count).then_some(lines)
}
