//! Addresses and networks in one form for both families.

use bytemuck::{Pod, Zeroable};

/// An IPv6 address, or an IPv4 address mapped into one (`::ffff:a.b.c.d`,
/// RFC 4291 section 2.5.5.2), as it lies in memory: in network byte order.
///
/// Four words, so that the kernel program holds it in registers, not byte by byte.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// Prefix length of `::ffff:0:0/96`, which holds all of IPv4.
    pub const V4_PREFIX_LEN: u32 = 96;

    /// An IPv6 address in network byte order.
    pub const fn from_v6(v6: [u8; 16]) -> Self {
        let mut words = [0; 4];
        let mut n = 0;
        while n < 4 {
            let at = 4 * n;
            words[n] = u32::from_ne_bytes([v6[at], v6[at + 1], v6[at + 2], v6[at + 3]]);
            n += 1;
        }
        Self(words)
    }

    /// The mapped form of an IPv4 address in network byte order.
    pub const fn from_v4(v4: [u8; 4]) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(v4))
    }

    /// The same from a word as it lies in memory.
    #[inline(always)]
    pub const fn from_v4_word(v4: u32) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), v4])
    }

    /// All ones in the first `prefix_len` bits, at most 128.
    pub const fn mask(prefix_len: u32) -> Self {
        assert!(prefix_len <= 128, "a prefix has at most 128 bits");
        let all = if prefix_len == 0 {
            0
        } else {
            u128::MAX << (128 - prefix_len)
        };
        Self::from_v6(all.to_be_bytes())
    }

    /// The bits of both.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, mask: Self) -> Self {
        let [a, b, c, d] = self.0;
        let mask = mask.0;
        Self([a & mask[0], b & mask[1], c & mask[2], d & mask[3]])
    }

    /// The bytes, in network order.
    pub fn octets(self) -> [u8; 16] {
        bytemuck::cast(self.0)
    }
}

/// A network as the bits that count and a mask that says which do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Network {
    bits: Address,
    mask: Address,
}

impl Network {
    /// The network of `address` with the first `prefix_len` bits, at most 128.
    /// Host bits of `address` are ignored.
    pub const fn new(address: Address, prefix_len: u32) -> Self {
        let mask = Address::mask(prefix_len);
        Self {
            bits: address.and(mask),
            mask,
        }
    }

    /// Whether `address` is inside.
    #[inline]
    pub fn contains(&self, address: Address) -> bool {
        let [a, b, c, d] = address.0;
        let [bits, mask] = [self.bits.0, self.mask.0];
        // One comparison at the end: each way through here is a way that the kernel's
        // verifier walks.
        let differs = (a & mask[0]) ^ bits[0]
            | (b & mask[1]) ^ bits[1]
            | (c & mask[2]) ^ bits[2]
            | (d & mask[3]) ^ bits[3];
        differs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_network_holds_its_addresses_only() {
        let net = Network::new(Address::from_v4([10, 1, 2, 3]), 96 + 8);
        assert!(net.contains(Address::from_v4([10, 255, 0, 1])));
        assert!(!net.contains(Address::from_v4([11, 0, 0, 1])));
    }

    #[test]
    fn prefix_of_zero_bits_holds_everything_and_of_128_one() {
        let one = Address::from_v4([192, 0, 2, 1]);
        let other = Address::from_v6([0xfd; 16]);
        assert!(Network::new(one, 0).contains(other));
        assert!(Network::new(one, 128).contains(one));
        assert!(!Network::new(one, 128).contains(Address::from_v4([192, 0, 2, 0])));
    }
}
