//! Nearest known words for a mistyped one, and how a list of words is printed in a hint.

use strsim::osa_distance;

/// Words longer than this are not compared: nothing registered is that long, so nothing can be near.
const LONGEST: usize = 64;

/// Up to three of `candidates` that are near `word`, nearest first; empty when none is.
///
/// Near means at most a third of the longer word's characters differ (at least one may), letter case aside, or one word begins the other.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    if word.is_empty() || word.len() > LONGEST {
        return Vec::new();
    }
    let wanted = word.to_lowercase();
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let known = candidate.to_lowercase();
            let distance = osa_distance(&wanted, &known);
            let allowed = (wanted.chars().count().max(known.chars().count()) / 3).max(1);
            let begins = wanted.len() >= 2 && known.len() >= 2 && (known.starts_with(&wanted) || wanted.starts_with(&known));
            // A one-letter word is one edit from every other one-letter word, which helps nobody.
            let meaningful = distance < wanted.len().max(known.len());
            (begins || (meaningful && distance <= allowed)).then_some((distance, candidate))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(3);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// "did you mean `a`, `b` or `c`?", or nothing for no words.
#[must_use]
pub fn did_you_mean(words: &[&str]) -> Option<String> {
    (!words.is_empty()).then(|| format!("did you mean {}?", alternatives(words)))
}

/// "`a`, `b` or `c`".
#[must_use]
pub fn alternatives<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = ["mlp", "resnet20", "fashion_mnist", "mnist", "pass1", "pass2"];

    #[test]
    fn near_words_come_nearest_first() {
        assert_eq!(nearest("mpl", KNOWN), ["mlp"]);
        assert_eq!(nearest("RESNET2", KNOWN), ["resnet20"]);
        assert_eq!(nearest("fashion", KNOWN), ["fashion_mnist"]);
        assert_eq!(nearest("pass3", KNOWN), ["pass1", "pass2"]);
        assert_eq!(nearest("mnits", KNOWN), ["mnist"]);
    }

    #[test]
    fn far_words_are_not_suggested() {
        assert!(nearest("transformer", KNOWN).is_empty());
        assert!(nearest("", KNOWN).is_empty());
        assert!(nearest("q", ["z", "e"]).is_empty());
        assert!(nearest(&"m".repeat(4000), KNOWN).is_empty());
    }

    #[test]
    fn word_lists_read_as_english() {
        assert_eq!(did_you_mean(&[]), None);
        assert_eq!(did_you_mean(&["a"]).as_deref(), Some("did you mean `a`?"));
        assert_eq!(alternatives(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
