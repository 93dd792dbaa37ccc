//! The fixed thousand test samples whose latent codes are plotted.

/// Little-endian 16-bit positions.
static POSITIONS: &[u8] = include_bytes!("../assets/small-set.bin");

/// Positions in a 10,000-sample official test set of the 1,000 samples shown in two-dimensional latent plots.
///
/// One list for MNIST, Fashion-MNIST and CIFAR-10; drawn with replacement, 946 are distinct. Source: the variational deficiency
/// bottleneck code, which stores the list.
pub fn two_d_samples() -> Vec<usize> {
    POSITIONS.chunks_exact(2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_positions_946_of_them_distinct() {
        let positions = two_d_samples();
        assert_eq!(positions.len(), 1000);
        assert!(positions.iter().all(|&p| p < 10_000));
        assert_eq!(positions[..3], [6967, 3662, 5123]);
        let distinct: std::collections::HashSet<_> = positions.iter().collect();
        assert_eq!(distinct.len(), 946);
    }
}
