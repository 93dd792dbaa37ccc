//! Whether a plan fits a model: every parameter in one group, every group a field, every optimiser moved by a phase.
//!
//! What nobody names would never be trained, and no number would show it.

use std::collections::BTreeSet;

use burn::module::Module;

use super::{OptimiserSlot, ParameterGroup, Plan};
use crate::component::suggest::{did_you_mean, nearest};
use crate::parameters;

/// Paths listed before "and n more".
const LISTED: usize = 6;

/// Why a plan does not fit a model and its objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Parameters without a group.
    #[error(
        "no parameter group names {}, so training would leave what is there as it was drawn\n  \
         hint: name the field in the objective's `groups` (the first group moves as the encoder, the others with the decoder), or build it with \
         `.no_grad()` if it is meant to stay as it is; see `Parameter groups` in docs/guide/your-objective.md", listed(.0)
    )]
    Unnamed(Vec<String>),
    /// A group of nothing.
    #[error(
        "parameter group `{group}` names `{prefix}`, but the model has no such field{}\n  \
         hint: a prefix is the whole path of a field, such as `encoder` or `model.encoder`; see `Parameter groups` in docs/guide/your-objective.md",
        .near.as_ref().map_or_else(String::new, |near| format!("; {near}"))
    )]
    UnknownField {
        /// Name of the group.
        group: String,
        /// The path that leads nowhere.
        prefix: String,
        /// Fields with a similar path.
        near: Option<String>,
    },
    /// A parameter of two groups.
    #[error(
        "parameter `{path}` belongs to the groups `{}` and `{}`, of which only one could move it\n  \
         hint: let each parameter belong to one group; see `Parameter groups` in docs/guide/your-objective.md", .groups[0], .groups[1]
    )]
    Twice {
        /// The parameter.
        path: String,
        /// The first two groups that name it.
        groups: [String; 2],
    },
    /// A phase that the objective has no loss for.
    #[error(
        "phase `{phase}` is no loss of the objective, which has `{}`\n  \
         hint: {}`phases` of the objective lists the names that its `loss` knows", .known.join("`, `"),
        .near.as_ref().map_or_else(String::new, |near| format!("{near} "))
    )]
    UnknownPhase {
        /// Name of the phase.
        phase: String,
        /// Names there are.
        known: Vec<String>,
        /// Names like it.
        near: Option<String>,
    },
    /// A phase that is held at a quantity the objective does not report.
    #[error(
        "phase `{phase}` is held at the quantity `{quantity}`, which the objective does not report\n  \
         hint: {}name one of its `quantities` in `hold_at`", .near.as_ref().map_or_else(String::new, |near| format!("{near} "))
    )]
    UnknownQuantity {
        /// Name of the phase.
        phase: String,
        /// Name of the quantity.
        quantity: String,
        /// Names like it.
        near: Option<String>,
    },
    /// A phase that moves an optimiser the plan does not have.
    #[error(
        "phase `{phase}` moves optimiser number {index}, but the plan has {optimisers}\n  \
         hint: the numbers in `updates` are positions in the plan's `optimisers`, from 0"
    )]
    UnknownOptimiser {
        /// Name of the phase.
        phase: String,
        /// The position.
        index: usize,
        /// Optimisers of the plan.
        optimisers: usize,
    },
    /// Parameters whose optimiser no phase moves.
    #[error(
        "no phase moves optimiser `{optimiser}`, so {} would stay as drawn\n  \
         hint: name it in the `updates` of a phase, or build these parameters with `.no_grad()` and leave the optimiser out", listed(.paths)
    )]
    Unmoved {
        /// Name of the optimiser.
        optimiser: String,
        /// Its parameters.
        paths: Vec<String>,
    },
    /// An optimiser that a phase moves and that has nothing to move.
    #[error(
        "phase `{phase}` moves optimiser `{optimiser}`, whose groups hold no parameter that can be trained\n  \
         hint: choose `--strategy oneshot`, which moves everything together, or let the groups name such parameters"
    )]
    Empty {
        /// Name of the phase.
        phase: String,
        /// Name of the optimiser.
        optimiser: String,
    },
}

fn listed(paths: &[String]) -> String {
    let more = paths.len().saturating_sub(LISTED);
    let shown = paths.iter().take(LISTED).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Refuses a plan under which a parameter of `model` that can be trained would not be, or that names what is not there.
///
/// # Errors
/// The first thing that does not fit.
pub fn check<M: Module>(plan: &Plan, model: &M) -> Result<(), PlanError> {
    let fields = parameters::fields(model);
    let mut trainable = Vec::new();
    parameters::for_each(model, |seen| {
        if seen.trainable {
            trainable.push(seen.path.to_owned());
        }
    });
    for group in plan.optimisers.iter().flat_map(|slot| &slot.groups) {
        known_fields(group, &fields)?;
    }
    let naming = |path: &str| -> Vec<&ParameterGroup> {
        plan.optimisers.iter().flat_map(|slot| &slot.groups).filter(|group| group.contains(path)).collect()
    };
    if let Some((path, groups)) = trainable.iter().map(|path| (path, naming(path))).find(|(_, groups)| groups.len() > 1) {
        return Err(PlanError::Twice { path: path.clone(), groups: [groups[0].name.clone(), groups[1].name.clone()] });
    }
    let unnamed: Vec<String> = trainable.iter().filter(|path| naming(path).is_empty()).cloned().collect();
    if !unnamed.is_empty() {
        return Err(PlanError::Unnamed(unnamed));
    }
    moved_by_a_phase(plan, &trainable)
}

/// Whether the objective has a loss for every phase, of the names `phases`, and reports what phases are held at, of the names `quantities`.
///
/// # Errors
/// [`PlanError`] naming the phase.
pub fn check_names(plan: &Plan, phases: &[&str], quantities: &[&str]) -> Result<(), PlanError> {
    for phase in &plan.phases {
        if !phases.contains(&phase.name.as_str()) {
            let near = did_you_mean(&nearest(&phase.name, phases.iter().copied()));
            return Err(PlanError::UnknownPhase {
                phase: phase.name.clone(),
                known: phases.iter().map(ToString::to_string).collect(),
                near,
            });
        }
        if let Some((quantity, _)) = phase.hold_at.filter(|(quantity, _)| !quantities.contains(quantity)) {
            let near = did_you_mean(&nearest(quantity, quantities.iter().copied()));
            return Err(PlanError::UnknownQuantity { phase: phase.name.clone(), quantity: quantity.to_owned(), near });
        }
    }
    Ok(())
}

fn known_fields(group: &ParameterGroup, fields: &BTreeSet<String>) -> Result<(), PlanError> {
    let Some(prefix) = group.prefixes.iter().find(|prefix| !fields.contains(*prefix)) else { return Ok(()) };
    let near = did_you_mean(&nearest(prefix, fields.iter().map(String::as_str)));
    Err(PlanError::UnknownField { group: group.name.clone(), prefix: prefix.clone(), near })
}

fn moved_by_a_phase(plan: &Plan, trainable: &[String]) -> Result<(), PlanError> {
    let owned = |slot: &OptimiserSlot| -> Vec<String> { trainable.iter().filter(|path| slot.contains(path)).cloned().collect() };
    for phase in &plan.phases {
        for &(index, _) in &phase.updates {
            let Some(slot) = plan.optimisers.get(index) else {
                return Err(PlanError::UnknownOptimiser { phase: phase.name.clone(), index, optimisers: plan.optimisers.len() });
            };
            if owned(slot).is_empty() {
                return Err(PlanError::Empty { phase: phase.name.clone(), optimiser: slot.name.clone() });
            }
        }
    }
    for (index, slot) in plan.optimisers.iter().enumerate() {
        let moved = plan.phases.iter().any(|phase| phase.updates.iter().any(|&(at, _)| at == index));
        let paths = owned(slot);
        if !moved && !paths.is_empty() {
            return Err(PlanError::Unmoved { optimiser: slot.name.clone(), paths });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Cadence, MAIN, Phase};
    use burn::module::Param;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Part {
        weight: Param<Tensor<1>>,
    }

    #[derive(Module, Debug)]
    struct Model {
        encoder: Part,
        decoder: Part,
        table: Part,
        absent: Option<Part>,
    }

    fn model() -> Model {
        let part = || Part { weight: Param::from_tensor(Tensor::<1>::from_floats([1.0], &Device::flex().autodiff())) };
        Model { encoder: part(), decoder: part(), table: part(), absent: None }
    }

    fn groups(fields: &[&str]) -> Vec<ParameterGroup> {
        fields.iter().map(|field| ParameterGroup::field(field)).collect()
    }

    fn oneshot(fields: &[&str]) -> Result<(), PlanError> {
        check(&Plan::together(&groups(fields)), &model())
    }

    #[test]
    fn every_parameter_needs_one_group_that_exists() {
        assert_eq!(oneshot(&["encoder", "decoder", "table"]), Ok(()));
        assert_eq!(oneshot(&["encoder", "decoder", "table", "absent"]), Ok(()), "a field may be empty");
        let forgotten = oneshot(&["encoder", "decoder"]).unwrap_err();
        assert_eq!(forgotten, PlanError::Unnamed(vec!["table.weight".to_owned()]));
        assert!(forgotten.to_string().contains("`table.weight`") && forgotten.to_string().contains("hint: name the field"));
        assert_eq!(oneshot(&[]).unwrap_err(), PlanError::Unnamed(["encoder", "decoder", "table"].map(|f| format!("{f}.weight")).to_vec()));
        let mistyped = oneshot(&["encoder", "decoder", "tabel"]).unwrap_err().to_string();
        assert!(mistyped.contains("`tabel`") && mistyped.contains("did you mean `table`?"), "{mistyped}");
        assert!(
            matches!(oneshot(&["encoder", "decoder", "table", "table.weight"]).unwrap_err(), PlanError::Twice { path, .. } if path == "table.weight")
        );
        assert!(matches!(oneshot(&["enc", "decoder", "table"]).unwrap_err(), PlanError::UnknownField { prefix, .. } if prefix == "enc"));
    }

    #[test]
    fn phases_and_the_quantities_they_are_held_at_are_the_objectives() {
        let held = |phase: &str, at| Plan {
            optimisers: Vec::new(),
            phases: vec![Phase { hold_at: Some((at, 0.5)), ..Phase::new(phase, Vec::new()) }],
        };
        let check = |phase, at| check_names(&held(phase, at), &["main", "critic"], &["loss", "critic_accuracy"]);
        assert_eq!(check("critic", "critic_accuracy"), Ok(()));
        let unknown = check("critik", "loss").unwrap_err().to_string();
        assert!(
            unknown.contains("`critik`") && unknown.contains("`main`, `critic`") && unknown.contains("did you mean `critic`?"),
            "{unknown}"
        );
        let unknown = check("critic", "critic_acuracy").unwrap_err().to_string();
        assert!(unknown.contains("`critic_acuracy`") && unknown.contains("did you mean `critic_accuracy`?"), "{unknown}");
    }

    #[test]
    fn parameters_built_without_gradient_need_no_group() {
        let frozen = Model { table: model().table.no_grad(), ..model() };
        assert_eq!(check(&Plan::together(&groups(&["encoder", "decoder"])), &frozen), Ok(()));
        let only_frozen = check(
            &Plan::together(&groups(&["encoder"])),
            &Model { encoder: model().encoder.no_grad(), decoder: model().decoder.no_grad(), ..frozen },
        );
        assert!(matches!(only_frozen.unwrap_err(), PlanError::Empty { optimiser, .. } if optimiser == "all"));
    }

    #[test]
    fn phases_move_optimisers_that_exist_and_every_optimiser_is_moved() {
        let plan = |updates: &[usize]| {
            let slot = |name: &str, fields: &[&str]| OptimiserSlot { name: name.to_owned(), groups: groups(fields), step_factor: 1 };
            let updates = updates.iter().map(|&index| (index, Cadence::Always)).collect();
            Plan { optimisers: vec![slot("a", &["encoder", "decoder"]), slot("b", &["table"])], phases: vec![Phase::new(MAIN, updates)] }
        };
        assert_eq!(check(&plan(&[0, 1]), &model()), Ok(()));
        let unmoved = check(&plan(&[0]), &model()).unwrap_err();
        assert_eq!(unmoved, PlanError::Unmoved { optimiser: "b".to_owned(), paths: vec!["table.weight".to_owned()] });
        let unknown = check(&plan(&[0, 1, 2]), &model()).unwrap_err().to_string();
        assert!(unknown.contains("phase `main` moves optimiser number 2, but the plan has 2"), "{unknown}");
        let no_phase = Plan { phases: Vec::new(), ..plan(&[]) };
        assert!(matches!(check(&no_phase, &model()).unwrap_err(), PlanError::Unmoved { optimiser, .. } if optimiser == "a"));
    }
}
