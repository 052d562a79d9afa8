//! Which names a topic may have. Scripts look for what is said of the others, so the words are
//! Kafka's.

use crate::Error;

/// The longest name: with `-` and a partition's number it still is a file name.
pub const NAME_BYTES_MAX: usize = 249;

/// Checks a topic's name: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
///
/// # Errors
/// [`Error::InvalidTopic`] says what is wrong with it.
pub fn check(name: &str) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::InvalidTopic(why));
    if name.is_empty() {
        return refuse("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return refuse(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse(format!(
            "Topic name is invalid: the length of '{}' is longer than the max allowed length \
             {NAME_BYTES_MAX}",
            name.escape_default()
        ));
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(is_legal) {
        return refuse(format!(
            "Topic name is invalid: '{}' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'",
            name.escape_default()
        ));
    }
    Ok(())
}

/// The name with `.` for `_`: two topics whose names agree in this form would share the names
/// of their metrics, so the second one is refused.
#[must_use]
pub fn collision_form(name: &str) -> String {
    name.replace('_', ".")
}

/// Whether a name has a character that takes part in collisions.
#[must_use]
pub fn may_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let long = "a".repeat(NAME_BYTES_MAX);
        for name in ["a", "__consumer_offsets", "a.b-C_9", "...", long.as_str()] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", "a b", "a/b", "a\0", "ä", "a\n", too_long.as_str()] {
            assert!(matches!(check(name), Err(Error::InvalidTopic(_))), "{name}");
        }
    }
}
