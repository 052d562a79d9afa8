//! Kafka's spellings as Rust's.

/// `FetchRequest` to `fetch_request`, `KRaftVersionRecord` to `k_raft_version_record`.
pub fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let starts_word = letter.is_uppercase()
            && before.is_some_and(|before| {
                let next_is_lower = letters.get(index + 1).is_some_and(|next| next.is_lowercase());
                !before.is_uppercase() || next_is_lower
            });
        if starts_word {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The file and module of a message.
pub fn module(name: &str) -> String {
    snake(name).replace("k_raft", "kraft")
}

/// A field's name.
pub fn field(name: &str) -> String {
    let name = snake(name);
    if ["type", "match", "final"].contains(&name.as_str()) { name + "_" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let check = |name, expected| assert_eq!(snake(name), expected);
        check("ThrottleTimeMs", "throttle_time_ms");
        check("LastKnownElr", "last_known_elr");
        check("Enable2Pc", "enable2_pc");
        check("NoOpRecord", "no_op_record");
        check("ACLs", "ac_ls");
        assert_eq!(module("KRaftVersionRecord"), "kraft_version_record");
        assert_eq!(field("Type"), "type_");
    }
}
