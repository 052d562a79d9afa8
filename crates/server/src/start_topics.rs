//! The topics that a broker makes at its start: from `--topic`, and from the variable that a
//! commonly used image has for them.

use broker::StartTopic;

/// `NAME:PARTITIONS:REPLICAS[:CLEANUP.POLICY]`, parted by commas.
pub(crate) const VARIABLE: &str = "KAFKA_CREATE_TOPICS";

/// All of them. What a flag names, the variable does not say again.
///
/// # Errors
/// One line that names the first that is refused.
pub(crate) fn merge(flags: &[String], variable: Option<&str>) -> Result<Vec<StartTopic>, String> {
    let mut topics: Vec<StartTopic> = Vec::new();
    for text in flags {
        let refuse = |reason: String| format!("--topic {text:?}: {reason}");
        let topic = StartTopic::parse(text).map_err(refuse)?;
        if topics.iter().any(|other| other.name == topic.name) {
            return Err(refuse("named twice".to_owned()));
        }
        topics.push(topic);
    }
    let flagged = topics.len();
    let entries = variable.unwrap_or_default().split(',').map(str::trim);
    for text in entries.filter(|text| !text.is_empty()) {
        let refuse = |reason: String| format!("{VARIABLE}: {text:?}: {reason}");
        let topic = StartTopic::parse_long(text).map_err(refuse)?;
        if topics[flagged..].iter().any(|other| other.name == topic.name) {
            return Err(refuse("named twice".to_owned()));
        }
        if !topics[..flagged].iter().any(|other| other.name == topic.name) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_variable() {
        let flags = ["a:2".to_owned(), "b".to_owned()];
        let topics = merge(&flags, Some("c:3:1:compact, a:9:1,")).unwrap();
        let shown: Vec<_> =
            topics.iter().map(|topic| (topic.name.as_str(), topic.partition_count)).collect();
        assert_eq!(shown, [("a", Some(2)), ("b", None), ("c", Some(3))]);
        assert_eq!(merge(&[], None), Ok(Vec::new()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let twice = ["a".to_owned(), "a:1".to_owned()];
        assert_eq!(merge(&twice, None), Err("--topic \"a:1\": named twice".to_owned()));
        let said = merge(&[], Some("a:1:1,a:2:1")).unwrap_err();
        assert_eq!(said, "KAFKA_CREATE_TOPICS: \"a:2:1\": named twice");
        let said = merge(&[], Some("a:1")).unwrap_err();
        assert!(said.starts_with("KAFKA_CREATE_TOPICS: \"a:1\": "), "{said}");
    }
}
