//! Names under which the original programs file their results.

use ibhost_framework::component::{Component, text_of};
use ibhost_framework::run::RunConfig;
use serde_json::Value;

fn text(component: &Component, key: &str) -> Option<String> {
    component.get(key).filter(|value| !value.is_null()).map(text_of)
}

fn is(component: &Component, key: &str) -> bool {
    component.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Data set as the toy program writes it: `toy4`, `toy4_20`, `toyMIM`, with a capital for pairs, `pca-fashion-mnist20`; other data sets keep
/// their own name.
fn toy_dataset(dataset: &Component) -> String {
    match dataset.name.as_str() {
        "toy" => {
            let head = if is(dataset, "pairs") { "Toy" } else { "toy" };
            let what = text(dataset, "text").or_else(|| text(dataset, "k")).unwrap_or_default();
            let dimensions = text(dataset, "d").filter(|d| d != "2").map(|d| format!("_{d}")).unwrap_or_default();
            format!("{head}{what}{dimensions}")
        }
        "pca" => {
            let of = text(dataset, "of").unwrap_or_default().replace('_', "-");
            format!("pca-{of}{}", text(dataset, "k").unwrap_or_default())
        }
        other => other.to_owned(),
    }
}

/// `q_x0marginal`: number of components and kind of a density, as the toy program joins them.
fn density(objective: &Component, key: &str) -> String {
    let components = text(objective, &format!("{key}_gmm")).unwrap_or_else(|| "0".to_owned());
    format!("{components}{}", text(objective, key).unwrap_or_default().replace('_', "-"))
}

/// Data set, code size and folder of a run of the objective `mim` in the tree of the toy program, e.g.
/// `toy4`, `z2` and `mim-samp_logvar6_mid-dim50_layers2_q-x0marginal_q-zx0_p-z0anchor_p-xz0`; nothing for other objectives.
///
/// What the original had no flag for leaves no trace in the name.
pub fn toy_folder(config: &RunConfig) -> Option<[String; 3]> {
    let (objective, encoder) = (&config.objective, &config.encoder);
    if objective.name != "mim" {
        return None;
    }
    let loss = text(objective, "loss")?;
    let model = if loss == "mim" && is(objective, "sampled") { "mim-samp".to_owned() } else { loss };
    let size = |key: &str| text(encoder, key).unwrap_or_else(|| "0".to_owned());
    let components = |key: &str| text(objective, key).unwrap_or_else(|| "0".to_owned());
    let flags = [("entropy", "-inv_H"), ("learn_p_z", "-learn_P_z"), ("self_supervised", "-self")];
    let flags: String = flags.into_iter().filter(|(key, _)| is(objective, key)).map(|(_, suffix)| suffix).collect();
    let tag = config.training.name.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
    let folder = format!(
        "{model}_logvar{}_mid-dim{}_layers{}_q-x{}_q-zx{}_p-z{}_p-xz{}{flags}{tag}",
        text(objective, "min_logvar")?,
        size("mid"),
        size("layers"),
        density(objective, "q_x"),
        components("q_zx_gmm"),
        density(objective, "p_z"),
        components("p_xz_gmm"),
    );
    Some([toy_dataset(&config.dataset), format!("z{}", size("z")), folder])
}

/// Name of a run of the objective `hvae` in the image program without the time it begins with, e.g.
/// `dynamic_mnist_convhvae_2level-smim_vampprior__K_500__wu_100__z1_40_z2_40`; nothing for other objectives.
pub fn image_folder(config: &RunConfig) -> Option<String> {
    let (objective, encoder, dataset) = (&config.objective, &config.encoder, &config.dataset);
    if objective.name != "hvae" {
        return None;
    }
    let of = |component: &Component, key: &str| text(component, key).unwrap_or_default();
    let one_level = encoder.name == "gated_mlp" && of(encoder, "z2") == "0";
    let model = match config.decoder.name.as_str() {
        "pixel_conv" => "pixelhvae_2level",
        "gated_conv" => "convhvae_2level",
        "gated_mlp" if one_level => "vae",
        "gated_mlp" => "hvae_2level",
        other => other,
    };
    let loss = match of(objective, "loss").as_str() {
        "vae" => String::new(),
        loss => format!("-{loss}"),
    };
    let data = if dataset.name == "binarised" { format!("{}_{}", of(dataset, "mode"), of(dataset, "of")) } else { dataset.name.clone() };
    let q_x = if of(objective, "q_x") == "vampprior" { "_q_x" } else { "" };
    Some(format!(
        "{data}_{model}{loss}_{}__K_{}__wu_{}__z1_{}_z2_{}{q_x}",
        of(objective, "prior"),
        of(objective, "components"),
        of(objective, "warmup"),
        of(encoder, "z1"),
        of(encoder, "z2"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_datasets as _;
    use ibhost_framework::run::Settings;
    use ibhost_nets as _;
    use ibhost_training as _;

    fn config(settings: &[(&str, &str)]) -> RunConfig {
        let mut layers = Settings::new();
        for (key, value) in settings {
            layers.set(key, (*value).into()).unwrap();
        }
        layers.resolve().unwrap()
    }

    #[test]
    fn toy_runs_are_named_as_in_the_original() {
        let networks = [("encoder", "vector_mlp/z:2|mid:50|min_logvar:6"), ("decoder", "vector_mlp/mid:50|min_logvar:6")];
        let name = |objective: &str, dataset: &str| {
            toy_folder(&config(&[&networks[..], &[("objective", objective), ("dataset", dataset)]].concat())).unwrap().join("/")
        };
        assert_eq!(
            name("mim/sampled:true|q_x_sample:decoder|warmup:3|min_logvar:6", "toy/k:4"),
            "toy4/z2/mim-samp_logvar6_mid-dim50_layers2_q-x0marginal_q-zx0_p-z0anchor_p-xz0"
        );
        assert_eq!(
            name("mim/loss:vae|entropy:true|p_z:gmm_marginal|p_z_gmm:7|min_logvar:6", "toy/k:4|d:20"),
            "toy4_20/z2/vae_logvar6_mid-dim50_layers2_q-x0marginal_q-zx0_p-z7gmm-marginal_p-xz0-inv_H"
        );
        assert!(name("mim/q_zx_gmm:3|p_xz_gmm:2", "toy/k:4").ends_with("_q-x0marginal_q-zx3_p-z0anchor_p-xz2"));
        assert!(name("mim/self_supervised:true", "toy/text:MIM|pairs:true").starts_with("ToyMIM/z2/mim_logvar10_"));
        assert!(name("mim/loss:ae", "pca/of:fashion_mnist|k:20").starts_with("pca-fashion-mnist20/z2/ae_logvar10_"));
        assert!(name("mim", "toy/k:-4").starts_with("toy-4/"));
    }

    #[test]
    fn image_runs_are_named_as_in_the_original() {
        let name = |objective: &str, encoder: &str, decoder: &str, dataset: &str| {
            let parts = [("objective", objective), ("encoder", encoder), ("decoder", decoder), ("dataset", dataset)];
            let config = config(&parts);
            assert_eq!(toy_folder(&config), None);
            image_folder(&config).unwrap()
        };
        assert_eq!(
            name("hvae/loss:smim", "gated_conv/z1:40|z2:40", "gated_conv", "binarised/of:mnist|holdout:10000"),
            "dynamic_mnist_convhvae_2level-smim_vampprior__K_500__wu_100__z1_40_z2_40"
        );
        assert_eq!(
            name("hvae/loss:amim|q_x:vampprior|prior:standard", "gated_mlp/z2:0", "gated_mlp", "binarised/of:mnist|mode:static"),
            "static_mnist_vae-amim_standard__K_500__wu_100__z1_40_z2_0_q_x"
        );
        let toy = config(&[("objective", "mim"), ("encoder", "vector_mlp"), ("dataset", "toy")]);
        assert_eq!(image_folder(&toy), None);
    }
}
