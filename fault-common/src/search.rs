//! The longest prefix that holds an address, by binary search over the lengths that there
//! are (Waldvogel, Varghese, Turner and Plattner, "Scalable high speed IP routing lookups",
//! SIGCOMM 1997).
//!
//! Prefixes are in a hash table by length and address. The search begins at a length in the
//! middle. Where it finds an entry, the longest prefix is this one or longer; else it is
//! shorter. For that, a prefix leaves a *sign* at each shorter length that the search comes
//! by on its way to it. A sign carries the target of the longest prefix in front of it, so
//! that the search never has to go back: a lookup in so many lengths takes no more looks
//! than that number has binary digits.

use crate::{
    address::Address,
    layout::{Key, Step},
};

/// Looks that a search takes at most: 129 lengths make a number of eight binary digits.
const LOOKS: u32 = 8;

/// The value of the longest prefix of a set that holds `address`.
#[inline(always)]
pub fn longest<'a>(
    set: u32,
    address: Address,
    step: impl Fn(u32) -> Option<&'a Step>,
    mut entry: impl FnMut(&Key) -> Option<u32>,
) -> Option<u32> {
    let mut found = None;
    let mut id = Step::first(set);
    for _ in 0..LOOKS {
        let Some(step) = step(id) else {
            break;
        };
        let key = Key {
            set,
            length: step.length,
            address: address.and(step.mask),
        };
        id = match entry(&key) {
            Some(value) => {
                found = Some(value);
                step.longer
            }
            None => step.shorter,
        };
    }
    found
}
