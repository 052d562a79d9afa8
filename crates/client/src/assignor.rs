//! The range assignor: for each topic the members that want it, sorted by their ids, get
//! consecutive ranges of its partitions, the first ones one more where it does not come out even.

use std::collections::BTreeMap;

/// Partitions by topic.
pub type Assignment = BTreeMap<String, Vec<i32>>;

/// Gives each member its partitions.
#[must_use]
pub fn range(
    subscriptions: &BTreeMap<String, Vec<String>>,
    partition_counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Assignment> {
    let mut assignments: BTreeMap<String, Assignment> =
        subscriptions.keys().map(|member| (member.clone(), Assignment::new())).collect();
    for (topic, count) in partition_counts {
        let wanting: Vec<&String> = subscriptions
            .iter()
            .filter(|(_, topics)| topics.contains(topic))
            .map(|(member, _)| member)
            .collect();
        let members = i32::try_from(wanting.len()).unwrap_or(i32::MAX);
        let mut start = 0;
        for (index, member) in (0..members).zip(wanting) {
            let share = count / members + i32::from(index < count % members);
            if share > 0 {
                let partitions = (start..start + share).collect();
                let assignment = assignments.get_mut(member).expect("made from the same keys");
                assignment.insert(topic.clone(), partitions);
            }
            start += share;
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(members: &[(&str, &[&str])], counts: &[(&str, i32)], expected: &str) {
        let names = |topics: &[&str]| topics.iter().map(|topic| (*topic).to_owned()).collect();
        let subscriptions =
            members.iter().map(|(member, topics)| ((*member).to_owned(), names(topics))).collect();
        let counts = counts.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect();
        let mut text = String::new();
        for (member, assignment) in range(&subscriptions, &counts) {
            text += &member;
            for (topic, partitions) in assignment {
                text += &format!(" {topic}{partitions:?}");
            }
            text.push(';');
        }
        assert_eq!(text, expected);
    }

    #[test]
    fn partitions_are_dealt_in_ranges() {
        check(&[("a", &["t"])], &[("t", 3)], "a t[0, 1, 2];");
        check(&[("a", &["t"]), ("b", &["t"])], &[("t", 3)], "a t[0, 1];b t[2];");
        check(&[("a", &["t"]), ("b", &["t"])], &[("t", 1)], "a t[0];b;");
        check(
            &[("a", &["t"]), ("b", &["t", "u"])],
            &[("t", 2), ("u", 2)],
            "a t[0];b t[1] u[0, 1];",
        );
        check(&[("a", &["t"])], &[("t", 0), ("v", 5)], "a;");
    }
}
