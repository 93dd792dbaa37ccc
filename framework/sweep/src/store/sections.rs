//! Settings of many runs, most of which are written in the same words: each of their sections is understood once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ibhost_framework::storage::run_dir::yaml_from_str;
use serde_json::{Map, Value};

/// Most sections that are remembered.
const REMEMBERED: usize = 50_000;

/// A key with its value.
type Section = Arc<(String, Value)>;

/// Sections that were understood, by their text.
#[derive(Debug, Default)]
pub(super) struct Sections(RwLock<HashMap<Box<str>, Section>>);

impl Sections {
    /// The YAML mapping `text`; nothing when it is no sequence of keys that can be understood one by one, and is to be read as a whole.
    pub fn read(&self, text: &str) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        let mut start = 0;
        let mut place = 0;
        for line in text.split_inclusive('\n') {
            // What belongs to a key is indented, but for the entries of a list and comments.
            if place > start && !line.starts_with([' ', '-', '#', '\n', '\r', '\t']) {
                self.add(&mut map, &text[start..place])?;
                start = place;
            }
            place += line.len();
        }
        self.add(&mut map, &text[start..])?;
        Some(map)
    }

    fn add(&self, map: &mut Map<String, Value>, section: &str) -> Option<()> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(section).cloned();
        let entry = match known {
            Some(entry) => entry,
            None => self.understand(section)?,
        };
        map.insert(entry.0.clone(), entry.1.clone()).is_none().then_some(())
    }

    fn understand(&self, section: &str) -> Option<Arc<(String, Value)>> {
        let map: Map<String, Value> = yaml_from_str(section).ok()?;
        let mut entries = map.into_iter();
        let entry = Arc::new(entries.next().filter(|_| entries.len() == 0)?);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.insert(section.into(), Arc::clone(&entry));
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_as_the_whole_is_or_not_at_all() {
        let sections = Sections::default();
        let sound = [
            "objective:\n  name: vib\n  beta: 0.001\nlist:\n- a\n- 'b: c'\n# a comment\nseed: 3\nnone: null\ntext: \"a: \\\"b\\\"\"\n",
            "objective:\n  name: vib\n  beta: 1.0e-8\nlong: a b\n  c d\nflow: {a: 1, b: [2, 3]}\n",
            "a: 1",
        ];
        for text in sound {
            for _ in 0..2 {
                assert_eq!(sections.read(text), Some(yaml_from_str(text).unwrap()), "{text}");
            }
        }
        // Keys that are given twice, values that refer to others, several documents, and what is no mapping.
        for text in ["a: 1\nb: 2\na: 3\n", "a: &x 1\nb: *x\n", "a: 1\n---\nb: 2\n", "- a\n- b\n", "", "a: \"b\nc: d\"\n"] {
            assert!(sections.read(text).is_none_or(|map| yaml_from_str(text) == Ok(map)), "{text}");
        }
    }
}
