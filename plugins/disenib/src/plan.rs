//! When which networks move: warm-up, the 4:1 toggle between the encoders, the estimator's and the discriminator's own updates.

use ibhost_framework::plan::{Cadence, OptimiserSlot, ParameterGroup, Phase, Plan};

use crate::config::DisenIbConfig;

/// Which encoder the estimator's term reaches in a main update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Neither: the term is only logged.
    Nobody,
    /// The style encoder.
    Style,
    /// The class encoder.
    Class,
}

/// A kind of update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Of encoders, decoder and reconstructor; `sharpen` adds the discriminator's term.
    Main {
        /// Whom the estimator's term moves.
        reach: Reach,
        /// Whether the discriminator's term is on.
        sharpen: bool,
    },
    /// Of the estimator.
    Estimator,
    /// Of the discriminator.
    Discriminator,
}

const ALL: [(&str, Update); 8] = [
    ("main", Update::Main { reach: Reach::Nobody, sharpen: false }),
    ("main_style", Update::Main { reach: Reach::Style, sharpen: false }),
    ("main_class", Update::Main { reach: Reach::Class, sharpen: false }),
    ("main_sharpen", Update::Main { reach: Reach::Nobody, sharpen: true }),
    ("main_style_sharpen", Update::Main { reach: Reach::Style, sharpen: true }),
    ("main_class_sharpen", Update::Main { reach: Reach::Class, sharpen: true }),
    ("estimator", Update::Estimator),
    ("discriminator", Update::Discriminator),
];

impl Update {
    /// Name of its phase.
    pub fn phase(self) -> &'static str {
        ALL.iter().find(|(_, update)| *update == self).map_or("main", |(name, _)| name)
    }

    /// Names of the phases of all updates.
    pub fn names() -> [&'static str; 8] {
        ALL.map(|(name, _)| name)
    }

    /// The update of a phase. Plans with other phases are refused when they are made.
    pub fn of(phase: &str) -> Self {
        ALL.iter().find(|(name, _)| *name == phase).map_or(ALL[0].1, |(_, update)| *update)
    }
}

/// The plan of a configuration. A step of the engine is one main update, so `n_times_main` of them make one step of the paper.
pub fn plan(config: &DisenIbConfig) -> Plan {
    let group = ParameterGroup::field;
    let slot = |name: &str, groups: Vec<ParameterGroup>| OptimiserSlot { name: name.to_owned(), groups, step_factor: 1 };
    let mut optimisers = vec![
        slot("main", ["encoder_class", "encoder_style", "decoder", "reconstructor"].map(group).to_vec()),
        slot("est", vec![group("estimator")]),
    ];
    let main = config.n_times_main;
    let est_from = config.est_thr.saturating_mul(main);
    let disc_from = if config.disc { config.disc_thr.saturating_mul(main) } else { u64::MAX };
    let toggle = config.est_style_optimize + 1;
    let mut phases = Vec::new();
    let mut add = |reach, sharpen, (start, end): (u64, u64), origin: u64, (period, from, to): (u64, u64, u64)| {
        if start >= end {
            return;
        }
        // The toggle counts from `origin`; a window that begins later begins in the middle of the cycle.
        let shift = (start - origin) % period;
        let phase = Update::Main { reach, sharpen }.phase();
        for (from, to) in [(from.max(shift), to.max(shift)), (from + period, (to + period).min(shift + period))] {
            if from < to {
                let when = Cadence::Window { start, end, period, from: from - shift, to: to - shift };
                phases.push(Phase { when, ..Phase::new(phase, vec![(0, Cadence::Always)]) });
            }
        }
    };
    for (sharpen, range) in [(false, (0, disc_from)), (true, (disc_from, u64::MAX))] {
        let (start, end) = range;
        add(Reach::Nobody, sharpen, (start, end.min(est_from)), start, (1, 0, 1));
        let active = (start.max(est_from), end);
        add(Reach::Style, sharpen, active, est_from, (toggle, 0, config.est_style_optimize));
        add(Reach::Class, sharpen, active, est_from, (toggle, config.est_style_optimize, toggle));
    }
    let last_of_step = Cadence::Cycle { period: main, from: main - 1, to: main };
    phases.push(Phase {
        when: last_of_step,
        repeats: config.n_times_est,
        batch_size: Some(config.est_batch_size),
        ..Phase::new(Update::Estimator.phase(), vec![(1, Cadence::Always)])
    });
    if config.disc {
        optimisers.push(slot("disc", vec![group("discriminator")]));
        phases.push(Phase {
            when: last_of_step,
            repeats: config.n_times_disc,
            hold_at: Some(("disc_acc", config.disc_limit_acc)),
            ..Phase::new(Update::Discriminator.phase(), vec![(2, Cadence::Always)])
        });
    }
    Plan { optimisers, phases }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the phases due at each of the first `steps` steps.
    fn due(config: &DisenIbConfig, steps: u64) -> Vec<Vec<String>> {
        let plan = plan(config);
        (0..steps).map(|s| plan.phases.iter().filter(|p| p.when.is_due(1, s)).map(|p| p.name.clone()).collect()).collect()
    }

    #[test]
    fn the_toggle_starts_at_the_threshold_and_runs_four_to_one() {
        let config = DisenIbConfig { n_times_main: 3, est_thr: 2, ..DisenIbConfig::default() };
        let names: Vec<String> = due(&config, 16).into_iter().map(|names| names[0].clone()).collect();
        let mut expected = vec!["main"; 6];
        expected.extend(["main_style", "main_style", "main_style", "main_style", "main_class"].repeat(2));
        assert_eq!(names, expected);
        for (step, names) in due(&config, 12).into_iter().enumerate() {
            assert_eq!(names.len() == 2, step % 3 == 2, "{step} {names:?}");
        }
    }

    #[test]
    fn the_discriminator_sharpens_from_its_own_threshold_without_disturbing_the_toggle() {
        let config =
            DisenIbConfig { n_times_main: 1, est_thr: 3, disc: true, disc_thr: 7, est_style_optimize: 2, ..DisenIbConfig::default() };
        let names: Vec<String> = due(&config, 12).into_iter().map(|names| names[0].clone()).collect();
        let s = "main_style";
        let (ss, cs) = ("main_style_sharpen", "main_class_sharpen");
        assert_eq!(names, ["main", "main", "main", s, s, "main_class", s, ss, cs, ss, ss, cs]);
        let early = DisenIbConfig { n_times_main: 1, est_thr: 3, disc: true, disc_thr: 1, ..DisenIbConfig::default() };
        let names: Vec<String> = due(&early, 4).into_iter().map(|names| names[0].clone()).collect();
        assert_eq!(names, ["main", "main_sharpen", "main_sharpen", ss]);
        for names in due(&config, 40).into_iter().chain(due(&early, 40)) {
            assert_eq!(names.iter().filter(|name| name.starts_with("main")).count(), 1, "{names:?}");
        }
    }

    #[test]
    fn names_and_updates_are_one_to_one() {
        for (name, update) in ALL {
            assert_eq!((Update::of(name), update.phase()), (update, name));
        }
    }
}
