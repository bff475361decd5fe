//! Random numbers as a function of a seed and a position.
//!
//! There is no generator state: the n-th draw of a rule is the same wherever
//! and on whichever CPU it is made, so a run with `--seed` can be repeated.

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014) over `seed` and `position`.
#[inline]
pub const fn draw(seed: u64, position: u64) -> u64 {
    mix(seed.wrapping_add(position.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A probability in steps of 2^-32: 0 is never, 2^32 is always.
pub mod probability {
    /// Always.
    pub const ONE: u64 = 1 << 32;

    /// Whether an event of probability `p` happens for 32 random bits.
    #[inline]
    pub const fn happens(p: u64, bits: u32) -> bool {
        (bits as u64) < p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_generator() {
        // The first outputs of SplitMix64 with seed 1234567, from its reference code.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        for (n, want) in (1u64..).zip(expected) {
            assert_eq!(draw(1_234_567, n), want);
        }
    }

    #[test]
    fn ends_of_the_probability_scale_are_exact() {
        assert!(!probability::happens(0, 0));
        assert!(probability::happens(probability::ONE, u32::MAX));
        assert!(!probability::happens(probability::ONE - 1, u32::MAX));
    }
}
