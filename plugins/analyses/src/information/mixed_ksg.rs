//! Mutual information of variables that may be continuous, discrete or both, by nearest neighbours.

use rayon::prelude::*;

use crate::information::kraskov::{InformationError, Rows, check, digamma};

/// I(X;Y) in nats by the estimator of Gao et al. 2017 (arXiv:1709.06212): mean_i [psi(k_i) + ln N - psi(n_x,i) - psi(n_y,i)].
///
/// The radius is the max-norm distance to the k-th nearest other sample; counts are of samples strictly closer, the sample itself included.
/// Where that distance is 0 the number of equal samples takes the place of k, and counts are of equal samples. (The published code takes
/// 1e-15 off the radius instead, which is nothing for large values and too much for tiny ones.)
///
/// # Errors
/// [`InformationError`] when there are not more than `k` samples, `k` is 0, the numbers of samples differ or a value is not finite.
pub fn mixed_ksg(x: Rows<'_>, y: Rows<'_>, k: usize) -> Result<f64, InformationError> {
    let n = check(&[x, y], k)?;
    let one = |i: usize| {
        let distance = |rows: &Rows<'_>, j: usize| rows.row(i).iter().zip(rows.row(j)).fold(0.0, |d: f64, (a, b)| d.max((a - b).abs()));
        let distances: Vec<[f64; 2]> = (0..n).map(|j| [distance(&x, j), distance(&y, j)]).collect();
        let mut joint: Vec<f64> = distances.iter().map(|[dx, dy]| dx.max(*dy)).collect();
        // The sample itself is the nearest, at distance 0.
        let radius = *joint.select_nth_unstable_by(k, f64::total_cmp).1;
        let inside = |distance: f64| if radius > 0.0 { distance < radius } else { distance == 0.0 };
        let within = |part: usize| distances.iter().filter(|d| inside(d[part])).count();
        let neighbours = if radius > 0.0 { k } else { joint.iter().filter(|d| **d == 0.0).count() };
        digamma(neighbours) - digamma(within(0)) - digamma(within(1))
    };
    let terms: Vec<f64> = (0..n).into_par_iter().map(one).collect();
    Ok(terms.iter().sum::<f64>() / n as f64 + (n as f64).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn discrete_variables_get_their_plug_in_information_and_normal_ones_theirs() {
        let labels: Vec<f64> = (0..2000).map(|i| f64::from(i % 4)).collect();
        let found = mixed_ksg(Rows::new(&labels, 1), Rows::new(&labels, 1), 5).unwrap();
        // psi(n) - ln n is of order 1/n.
        assert!((found - 4f64.ln()).abs() < 2e-3, "{found}");
        let mut noise = Noise::new(4).stream("pairs", 0);
        let (rho, mut x, mut y) = (0.8f64, Vec::new(), Vec::new());
        for _ in 0..2000 {
            let (a, b) = (noise.normal(), noise.normal());
            x.push(a);
            y.push(rho * a + (1.0 - rho * rho).sqrt() * b);
        }
        let found = mixed_ksg(Rows::new(&x, 1), Rows::new(&y, 1), 5).unwrap();
        assert!((found + 0.5 * (1.0 - rho * rho).ln()).abs() < 0.06, "{found}");
        assert!(mixed_ksg(Rows::new(&x[..3], 1), Rows::new(&y[..3], 1), 5).is_err());
        // One unit for both leaves every comparison as it is, whatever it is.
        let scaled = |unit: f64| [&x, &y].map(|v| v.iter().map(|a| a * unit).collect::<Vec<_>>());
        for unit in [2f64.powi(-60), 2f64.powi(60)] {
            let [x, y] = scaled(unit);
            assert_eq!(mixed_ksg(Rows::new(&x, 1), Rows::new(&y, 1), 5).unwrap().to_bits(), found.to_bits(), "{unit}");
        }
    }

    #[test]
    fn constants_tell_nothing_and_copies_what_their_sources_do() {
        let constant = [3.0; 300];
        let found = mixed_ksg(Rows::new(&constant, 1), Rows::new(&constant, 1), 5).unwrap();
        assert!(found.abs() < 2e-3, "{found}");
        let mut noise = Noise::new(9).stream("sources", 0);
        let sources: Vec<f64> = (0..12).map(|_| noise.normal()).collect();
        let copies: Vec<f64> = (0..600).map(|i| sources[i % 12]).collect();
        let found = mixed_ksg(Rows::new(&copies, 1), Rows::new(&copies, 1), 5).unwrap();
        assert!((found - 12f64.ln()).abs() < 0.02, "{found}");
    }
}
