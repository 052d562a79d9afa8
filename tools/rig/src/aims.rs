//! How often a rig hit what it aims at. A rig that never hit it has shown nothing, and fails.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Aims {
    hits: BTreeMap<&'static str, u64>,
    restarts: Vec<Duration>,
}

impl Aims {
    pub fn hit(&mut self, aim: &'static str, times: u64) {
        *self.hits.entry(aim).or_default() += times;
    }

    pub fn was_hit(&self, aim: &'static str) -> bool {
        self.hits.get(aim).is_some_and(|times| *times > 0)
    }

    pub fn restarted(&mut self, took: Duration) {
        self.restarts.push(took);
    }

    /// Prints every count.
    ///
    /// # Errors
    /// Names the first of `required` that was never hit.
    pub fn report(&mut self, required: &[&'static str]) -> Result<(), String> {
        for aim in required {
            self.hit(aim, 0);
        }
        for (aim, times) in &self.hits {
            println!("  {aim}: {times}");
        }
        self.restarts.sort();
        if let (Some(last), middle) = (self.restarts.last(), self.restarts.len() / 2) {
            let median = self.restarts[middle];
            println!("  restart: median {median:.1?}, longest {last:.1?}");
        }
        match required.iter().find(|aim| self.hits[*aim] == 0) {
            None => Ok(()),
            Some(missed) => Err(format!("the rig never hit what it aims at: {missed}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_that_was_never_hit_fails_the_rig() {
        let mut aims = Aims::default();
        aims.hit("a", 2);
        aims.hit("b", 0);
        assert_eq!(aims.report(&["a"]), Ok(()));
        assert!(aims.report(&["a", "b"]).unwrap_err().contains(": b"));
        assert!(aims.report(&["c"]).unwrap_err().contains(": c"));
    }
}
