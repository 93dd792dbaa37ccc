//! Names: of parameters in published checkpoints, and of runs and their folders as the published trainer gives them.

/// Name a published checkpoint has for the parameter at `path` of a [`Hit`](crate::Hit) model; nothing for parts the original does not have.
///
/// Fields are called like the original's layers, so that only the grouping has to go: `encoder.top.qz_conv1.weight` is `qz_conv1.weight`,
/// element i of a sequence counts the activations between (`qz_convs.1` is `qz_convs.2`), and a ladder's two last transposed convolutions are
/// `px_conv2` and `px_conv3`.
pub fn published(path: &str, ladder: bool) -> Option<String> {
    if path.contains("middle.") || (path.contains("priors.") && !path.contains("priors.0.")) {
        return None;
    }
    let starts = |segment: &str| ["qz_", "qy_", "py_", "px_"].iter().any(|prefix| segment.starts_with(prefix)) || segment == "log_sigma";
    let mut segments = path.split('.').skip_while(|segment| !starts(segment));
    let layer = segments.next()?;
    let rest: Vec<&str> = segments.collect();
    let [inner @ .., last] = rest.as_slice() else { return Some(layer.to_owned()) };
    let layer = match (layer, inner) {
        ("px_conv1", ["Row"]) => "px_l1".to_owned(),
        ("px_convs", [index, ..]) if ladder => format!("px_conv{}", index.parse::<usize>().ok()? + 2),
        (sequence, [index, ..]) if index.parse::<usize>().is_ok() => format!("{sequence}.{}", 2 * index.parse::<usize>().ok()?),
        (layer, _) => layer.to_owned(),
    };
    Some(format!("{layer}.{last}"))
}

/// Options of the published trainer that its run names show.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedRun {
    /// Folder that groups a grid.
    pub run_batch_name: String,
    /// Prefix of the name.
    pub run_name: String,
    /// Epochs.
    pub num_epochs: u64,
    /// Samples a step.
    pub batch_size: u64,
    /// Channels.
    pub conv_channels: u64,
    /// Data set.
    pub dataset: String,
    /// HVAE or LVAE.
    pub vae_type: String,
    /// GaussianFixedSigma, GaussianLearnedSigma, Bernoulli or MoL.
    pub px_y_family_ll: String,
    /// DiagonalGaussian or GumbelSoftmax.
    pub qz_family: String,
    /// Weight of the bottom rate.
    pub beta_y: f64,
    /// Weight of the top rate.
    pub beta_z: f64,
    /// Fixed standard deviation.
    pub sigma: f64,
    /// Numbers in the top code.
    pub z_dims: u64,
    /// Both codes are maps.
    pub use_conv_z: bool,
    /// Numbers in the bottom code as a row.
    pub linear_y_with_dims: Option<u64>,
    /// A ladder without warm-up.
    pub no_warmup: bool,
}

impl Default for PublishedRun {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            run_batch_name: text("singles"),
            run_name: String::new(),
            num_epochs: 200,
            batch_size: 256,
            conv_channels: 16,
            dataset: text("BinaryMNIST"),
            vae_type: text("HVAE"),
            px_y_family_ll: text("Bernoulli"),
            qz_family: text("DiagonalGaussian"),
            beta_y: 1.0,
            beta_z: 1.0,
            sigma: 0.03,
            z_dims: 10,
            use_conv_z: false,
            linear_y_with_dims: None,
            no_warmup: false,
        }
    }
}

impl PublishedRun {
    /// Name of the run's folder.
    pub fn name(&self) -> String {
        let prefix = if self.run_name.is_empty() { "NoName" } else { &self.run_name };
        let mut name = format!(
            "{prefix}-Epochs_{}-BatchSize_{}-c_{}-{}-{}-px_y_family_ll_{}-qz_family_{}-Beta_y_{:?}-Beta_z_{:?}",
            self.num_epochs,
            self.batch_size,
            self.conv_channels,
            self.dataset,
            self.vae_type,
            self.px_y_family_ll,
            self.qz_family,
            self.beta_y,
            self.beta_z,
        );
        if self.px_y_family_ll == "GaussianFixedSigma" {
            name.push_str(&format!("-ll_sigma_{:?}", self.sigma));
        }
        name.push_str(&if self.use_conv_z { "-use_conv_z".to_owned() } else { format!("-z_dim_{}", self.z_dims) });
        if let Some(dims) = self.linear_y_with_dims {
            name.push_str(&format!("-linear_y_dims_{dims}"));
        }
        if self.no_warmup && self.vae_type == "LVAE" {
            name.push_str("-no_warmup");
        }
        name
    }

    /// Folder the run's folder lies in.
    pub fn folder(&self) -> String {
        format!("./runs/{}", self.run_batch_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_grouping() {
        for (path, ladder, name) in [
            ("encoder.top.qz_conv1.weight", false, Some("qz_conv1.weight")),
            ("encoder.top.heads.qz_mu.bias", false, Some("qz_mu.bias")),
            ("encoder.bottom.qy_mu.Map.weight", false, Some("qy_mu.weight")),
            ("encoder.qy_mu.Row.weight", true, Some("qy_mu.weight")),
            ("encoder.qz_convs.3.Conv.weight", false, Some("qz_convs.6.weight")),
            ("decoder.priors.0.py_l1.weight", false, Some("py_l1.weight")),
            ("decoder.priors.1.py_l1.weight", false, None),
            ("encoder.middle.0.mean.weight", false, None),
            ("decoder.px_conv1.Row.bias", false, Some("px_l1.bias")),
            ("decoder.px_conv1.Map.bias", false, Some("px_conv1.bias")),
            ("decoder.px_convs.1.Transposed.weight", false, Some("px_convs.2.weight")),
            ("decoder.px_convs.1.Transposed.weight", true, Some("px_conv3.weight")),
            ("decoder.likelihood.log_sigma", false, Some("log_sigma")),
        ] {
            assert_eq!(published(path, ladder).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn run_names_show_what_differs() {
        let run = PublishedRun { vae_type: "LVAE".to_owned(), no_warmup: true, beta_y: 0.1, ..PublishedRun::default() };
        assert!(run.name().starts_with("NoName-Epochs_200-BatchSize_256-c_16-BinaryMNIST-LVAE-"));
        assert!(run.name().ends_with("-Beta_y_0.1-Beta_z_1.0-z_dim_10-no_warmup"), "{}", run.name());
    }
}
