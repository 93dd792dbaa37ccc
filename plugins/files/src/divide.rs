//! Division of records into those trained on and those tested on, where their source does not say.

use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::column::Classes;

/// What a division keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Division {
    /// By group where groups are named, by class where there are labels, else at random.
    #[default]
    Auto,
    /// Nothing: every record has the same chance.
    Random,
    /// The share of each class.
    Class,
    /// Groups as a whole.
    Group,
}

/// Which of `count` records are tested on: about `share` of them, at least one where there are two.
///
/// `classes` and `groups` are those of the records; a rule that needs one which is not there is [`Division::Random`].
pub fn divide(count: usize, share: f64, rule: Division, classes: Option<&Classes>, groups: Option<&Classes>, seed: u64) -> Vec<bool> {
    let mut noise = Noise::new(seed).stream("data set file: division", 0);
    let mut test = vec![false; count];
    let wanted =
        |count: usize| ((share * count as f64).round() as usize).min(count.saturating_sub(1)).max(usize::from(count > 1 && share > 0.0));
    let by = match rule {
        Division::Auto => groups.map(|groups| (groups, true)).or(classes.map(|classes| (classes, false))),
        Division::Class => classes.map(|classes| (classes, false)),
        Division::Group => groups.map(|groups| (groups, true)),
        Division::Random => None,
    };
    match by {
        None => noise.permutation(count).into_iter().take(wanted(count)).for_each(|record| test[record] = true),
        Some((groups, true)) => {
            let mut left = wanted(count);
            let order = noise.permutation(groups.names.len());
            let sizes: Vec<usize> = (0..groups.names.len()).map(|group| groups.of.iter().filter(|&&of| of == group).count()).collect();
            for (place, group) in order.iter().copied().enumerate() {
                // One group is left to train on.
                if place + 1 < order.len() && left > 0 && (sizes[group] <= left || place == 0) {
                    left = left.saturating_sub(sizes[group]);
                    groups.of.iter().zip(&mut test).filter(|(of, _)| **of == group).for_each(|(_, test)| *test = true);
                }
            }
        }
        Some((classes, false)) => {
            let mut members = vec![Vec::new(); classes.names.len()];
            classes.of.iter().enumerate().for_each(|(record, &class)| members[class].push(record));
            for members in members {
                for place in noise.permutation(members.len()).into_iter().take(wanted(members.len())) {
                    test[members[place]] = true;
                }
            }
        }
    }
    test
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(of: &[usize]) -> Classes {
        let count = of.iter().max().map_or(0, |most| most + 1);
        Classes { names: (0..count).map(|class| class.to_string()).collect(), of: of.to_vec() }
    }

    #[test]
    fn shares_are_kept_by_class_and_groups_stay_whole() {
        let of: Vec<usize> = (0..100).map(|record| usize::from(record % 10 == 0)).collect();
        let (labels, groups) = (classes(&of), classes(&(0..100).map(|record| record / 7).collect::<Vec<_>>()));
        let test = divide(100, 0.2, Division::Auto, Some(&labels), None, 1);
        assert_eq!(test.iter().filter(|&&test| test).count(), 20);
        assert_eq!((0..100).filter(|&record| test[record] && of[record] == 1).count(), 2);
        assert_eq!(divide(100, 0.2, Division::Auto, Some(&labels), None, 1), test, "the seed decides");
        assert_ne!(divide(100, 0.2, Division::Auto, Some(&labels), None, 2), test);

        let test = divide(100, 0.2, Division::Auto, Some(&labels), Some(&groups), 1);
        let count = test.iter().filter(|&&test| test).count();
        assert!((10..=20).contains(&count), "{count}");
        assert!((0..100).all(|record| test[record] == test[record / 7 * 7]), "a group is in two splits");
    }

    #[test]
    fn both_splits_have_a_record_where_there_are_two() {
        for rule in [Division::Random, Division::Class, Division::Group] {
            let two = classes(&[0, 1]);
            let one = classes(&[0, 0]);
            let test = divide(2, 0.01, rule, Some(&one), Some(&two), 0);
            assert_eq!(test.iter().filter(|&&test| test).count(), 1, "{rule:?}");
        }
        assert_eq!(divide(1, 0.5, Division::Random, None, None, 0), [false]);
    }
}
