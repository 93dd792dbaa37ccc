//! NumPy's legacy random generator, for orders of samples that published code drew with it.

/// The Mersenne twister MT19937 as `numpy.random.seed(seed)` starts it.
#[derive(Clone, Debug)]
pub struct LegacyRandom {
    state: [u32; WORDS],
    at: usize,
}

const WORDS: usize = 624;
const APART: usize = 397;

impl LegacyRandom {
    /// The generator after `numpy.random.seed(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut state = [0; WORDS];
        state[0] = seed;
        for i in 1..WORDS {
            let before: u32 = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, at: WORDS }
    }

    /// 32 random bits.
    fn next(&mut self) -> u32 {
        if self.at == WORDS {
            for i in 0..WORDS {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % WORDS] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + APART) % WORDS] ^ (y >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform integer from 0 to `most` by drawing until it fits.
    fn up_to(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.next() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// `numpy.random.permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.up_to(i as u32) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_orders_are_the_known_ones() {
        // The reference generator's first output for its default seed.
        assert_eq!(LegacyRandom::new(5489).next(), 3_499_211_612);
        assert_eq!(LegacyRandom::new(42).permutation(10), [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]);
        assert_eq!(LegacyRandom::new(1).permutation(1), [0]);
    }
}
