//! Addresses and networks in one form for both families.

use bytemuck::{Pod, Zeroable};

/// An IPv6 address, or an IPv4 address mapped into one (`::ffff:a.b.c.d`,
/// RFC 4291 section 2.5.5.2), in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// Prefix length of `::ffff:0:0/96`, which holds all of IPv4.
    pub const V4_PREFIX_LEN: u32 = 96;

    /// The mapped form of an IPv4 address in network byte order.
    #[inline]
    pub const fn from_v4(v4: [u8; 4]) -> Self {
        let [a, b, c, d] = v4;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    #[inline]
    fn halves(self) -> [u64; 2] {
        bytemuck::cast(self.0)
    }
}

/// A network as the bits that count and a mask that says which do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Network {
    bits: [u64; 2],
    mask: [u64; 2],
}

impl Network {
    /// The network of `address` with the first `prefix_len` bits, at most 128.
    /// Host bits of `address` are ignored.
    pub const fn new(address: Address, prefix_len: u32) -> Self {
        assert!(prefix_len <= 128, "a prefix has at most 128 bits");
        let all = if prefix_len == 0 {
            0
        } else {
            u128::MAX << (128 - prefix_len)
        };
        let bits = (u128::from_be_bytes(address.0) & all).to_be_bytes();
        Self {
            bits: halves(bits),
            mask: halves(all.to_be_bytes()),
        }
    }

    /// Whether `address` is inside.
    #[inline]
    pub fn contains(&self, address: Address) -> bool {
        let [high, low] = address.halves();
        high & self.mask[0] == self.bits[0] && low & self.mask[1] == self.bits[1]
    }
}

/// The two halves as they lie in memory: compared for equality only, so the
/// byte order of the machine does not matter.
const fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
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
        let other = Address([0xfd; 16]);
        assert!(Network::new(one, 0).contains(other));
        assert!(Network::new(one, 128).contains(one));
        assert!(!Network::new(one, 128).contains(Address::from_v4([192, 0, 2, 0])));
    }
}
