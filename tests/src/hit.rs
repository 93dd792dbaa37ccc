//! Vectors of hierarchical information trading.

mod model;
mod pieces;
mod rule;
mod training;
mod whole;

use serde_json::Value;

type Outcome = Result<(), String>;

/// Checks a vector of the given kind; nothing for kinds that are not this paper's.
pub fn check(kind: &str, file: &Value) -> Option<Outcome> {
    Some(match kind {
        "kl_gaussian" => pieces::kl_gaussian(file),
        "loglik_gaussian" => pieces::gaussian(file),
        "loglik_gaussian_learned" => pieces::learned_gaussian(file),
        "loglik_bernoulli" => pieces::bernoulli(file),
        "loglik_mol" => pieces::mixture(file),
        "mol_sample" => pieces::mixture_sample(file),
        "gumbel" => pieces::gumbel(file),
        "lvae_merge" => pieces::ladder(file),
        "init_bounds" => model::initial_bounds(file),
        "full_size_models" => model::full_size(file),
        "train_trajectory" => training::trajectory(file),
        "schedules" => training::schedules(file),
        "optimisers" => training::optimisers(file),
        "run_names" => training::run_names(file),
        _ if kind.starts_with("hvae_") || kind.starts_with("lvae_") => whole::check(file),
        _ => return None,
    })
}
