//! Input positions of a strided convolution by their remainder: all positions of one remainder meet the same taps.

/// Input positions `first`, `first + stride`, ... and the taps that reach them: `tap`, `tap + stride`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// First input position.
    pub first: usize,
    /// Input positions.
    pub count: usize,
    /// First tap.
    pub tap: usize,
    /// Taps.
    pub taps: usize,
    /// Output position that meets the first input position through the last tap; negative before the output's first.
    pub start: isize,
}

/// The phases of `size` input positions under a kernel of `kernel` taps, `before` positions being padded in front.
pub fn phases(size: usize, kernel: usize, stride: usize, before: usize) -> Vec<Phase> {
    (0..stride.min(size))
        .map(|first| {
            let tap = (first + before) % stride;
            let taps = kernel.saturating_sub(tap).div_ceil(stride);
            let start = ((first + before - tap) / stride) as isize - taps as isize + 1;
            Phase { first, count: (size - first).div_ceil(stride), tap, taps, start }
        })
        .collect()
}

/// Zeros needed before and after `size` outputs for all of `phases` to read without leaving them.
pub fn border(phases: &[Phase], size: usize) -> [usize; 2] {
    let reading = || phases.iter().filter(|p| p.taps > 0);
    let before = reading().map(|p| -p.start).max().unwrap_or(0).max(0);
    let after = reading().map(|p| p.start + (p.count + p.taps) as isize - 1 - size as isize).max().unwrap_or(0).max(0);
    [before as usize, after as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_input_and_output_position_meets_through_its_tap_once() {
        for (size, kernel, stride, before, after) in [(8, 3, 2, 0, 1), (7, 3, 2, 1, 1), (5, 1, 2, 0, 0), (6, 4, 3, 2, 0), (4, 5, 1, 2, 2)] {
            let outputs = (size + before + after - kernel) / stride + 1;
            let mut met = vec![];
            for p in phases(size, kernel, stride, before) {
                for i in 0..p.count {
                    for j in 0..p.taps {
                        let (input, tap) = (p.first + i * stride, p.tap + (p.taps - 1 - j) * stride);
                        let output = p.start + (i + j) as isize;
                        if (0..outputs as isize).contains(&output) {
                            met.push((input, tap, output as usize));
                        }
                    }
                }
            }
            let mut expected = vec![];
            for output in 0..outputs {
                for tap in 0..kernel {
                    if let Some(input) = (output * stride + tap).checked_sub(before).filter(|i| *i < size) {
                        expected.push((input, tap, output));
                    }
                }
            }
            met.sort_unstable();
            expected.sort_unstable();
            assert_eq!(met, expected, "{size} {kernel} {stride} {before} {after}");
        }
    }
}
