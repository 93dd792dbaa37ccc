//! Analysis `class_overlap`: how far the codes of the classes lie apart, with a figure of its own.

use ibhost_analyses::figures::plot::colour::tab10;
use ibhost_analyses::figures::plot::{Figure, Layer, Mark, png};
use ibhost_analyses::output::picture;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Results};
use ibhost_framework::capability::Encode;
use ibhost_framework::dataset::Split;
use ibhost_framework::result::{Direction, Measured};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NAME: &str = "class_overlap";

/// Distance between the classes' mean codes over the spread inside of the classes.
///
/// Codes are posterior means of test samples. For two classes: the distance of their centres over the root of the mean squared distance of
/// all codes from the centres of their own classes, without unit. The figure shows the first two dimensions of the codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClassOverlap {
    /// Test samples used at most.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub points: usize,
}

impl Default for ClassOverlap {
    fn default() -> Self {
        Self { points: 1000 }
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[typetag::serde(name = "class_overlap")]
impl AnalysisConfig for ClassOverlap {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Encode>(NAME)?;
        let (test, classes) = (context.data.split(Split::Test), &context.data.info().classes);
        let indices: Vec<usize> = (0..test.len().min(self.points)).collect();
        let (mut codes, mut labels) = (Vec::new(), Vec::new());
        for chunk in indices.chunks(500) {
            let means = model.posterior(test.batch(chunk, context.device).inputs).mean();
            let latent = means.dims()[1];
            let values: Vec<f64> = means.into_data().iter::<f64>().collect();
            codes.extend(values.chunks_exact(latent).map(<[f64]>::to_vec));
            labels.extend(chunk.iter().map(|&i| usize::from(test.label(i))));
        }
        let members = |class: usize| codes.iter().zip(&labels).filter(move |(_, label)| **label == class).map(|(code, _)| code);
        let centre = |class: usize| {
            let count = members(class).count();
            let columns = (0..codes.first().map_or(0, Vec::len)).map(|k| members(class).map(|code| code[k]).sum::<f64>() / count as f64);
            (count > 0).then(|| columns.collect::<Vec<f64>>())
        };
        let centres: Vec<Option<Vec<f64>>> = (0..classes.len()).map(centre).collect();
        let squares = codes.iter().zip(&labels).filter_map(|(code, &label)| Some(distance(code, centres[label].as_ref()?).powi(2)));
        let spread = (squares.sum::<f64>() / codes.len().max(1) as f64).sqrt();

        let mut results = Results::of([Measured::plain("spread", spread)]);
        for (a, from) in centres.iter().enumerate() {
            for (b, to) in centres.iter().enumerate().skip(a + 1) {
                if let (Some(from), Some(to)) = (from, to) {
                    let apart = Measured::new("distance", distance(from, to) / spread, "spreads", Direction::Maximise);
                    let place = format!("pairs/{}-{}", classes[a], classes[b]);
                    results = results.and(apart.along("class", classes[a].as_str()).along("other", classes[b].as_str()).within(&place));
                }
            }
        }
        let mut figure = Figure::new(context.label, "z 1", "z 2");
        for (class, name) in classes.iter().enumerate() {
            let points = members(class).map(|code| [code[0], code.get(1).copied().unwrap_or(0.0)]).collect();
            figure.layers.push(Layer::Points { points, colour: tab10(class), opacity: 0.6, radius: 3 });
            figure.entry(name, tab10(class), Mark::Swatch);
        }
        let file = picture(context.output, "plots/class-overlap.png", png(&figure, (700, 600)))?;
        results.files.push(file);
        Ok(results)
    }
}

ibhost_framework::register! {
    Analysis: ClassOverlap as AnalysisConfig, aliases: [], paper: "", example: "class_overlap/points:500", needs: [Encode],
}
