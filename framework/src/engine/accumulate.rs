//! Running means of reported quantities, kept on the device until they are read.

use burn::tensor::Tensor;

use crate::objective::{Measure, read_measures};

/// Sums of batch means weighted by batch size; a short last batch counts for what it holds.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    sums: Vec<(String, Tensor<1>, f64)>,
}

impl Accumulator {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the batch means of `samples` samples.
    pub fn add(&mut self, measures: Vec<Measure>, samples: usize) {
        let weight = samples as f64;
        for Measure { name, value } in measures {
            let value = value.inner().mul_scalar(weight);
            match self.sums.iter_mut().find(|(known, _, _)| *known == name) {
                Some((_, sum, total)) => {
                    *sum = sum.clone() + value;
                    *total += weight;
                }
                None => self.sums.push((name.into_owned(), value, weight)),
            }
        }
    }

    /// Means by name, in the order the quantities were first seen. Reads from the device.
    pub fn means(&self) -> Vec<(String, f64)> {
        self.totals().into_iter().map(|(name, sum, weight)| (name, sum / weight)).collect()
    }

    /// Sums and weights, for a checkpoint.
    pub fn totals(&self) -> Vec<(String, f64, f64)> {
        let sums = self.sums.iter().map(|(name, sum, _)| Measure { name: name.clone().into(), value: sum.clone() }).collect();
        read_measures(sums).into_iter().zip(&self.sums).map(|((name, sum), (_, _, weight))| (name, sum, *weight)).collect()
    }

    /// Continues from what [`Accumulator::totals`] gave.
    pub fn from_totals(totals: &[(String, f64, f64)], device: &burn::tensor::Device) -> Self {
        let device = device.clone().without_autodiff();
        let sums = totals.iter().map(|(name, sum, weight)| (name.clone(), Tensor::from_data([*sum], &device), *weight));
        Self { sums: sums.collect() }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sums.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn batches_count_by_their_size_and_totals_survive_a_round_trip() {
        let device = Device::flex();
        let mut sums = Accumulator::new();
        let value = |x: f32| vec![Measure::new("loss", Tensor::from_floats([x], &device))];
        sums.add(value(1.0), 3);
        sums.add(value(5.0), 1);
        assert_eq!(sums.means(), [("loss".to_owned(), 2.0)]);
        let again = Accumulator::from_totals(&sums.totals(), &device);
        assert_eq!(again.totals(), sums.totals());
    }
}
