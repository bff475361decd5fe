//! The longest prefix that holds an address, by binary search over the lengths that there
//! are (Waldvogel, Varghese, Turner and Plattner, "Scalable high speed IP routing lookups",
//! SIGCOMM 1997).
//!
//! Prefixes are in a hash table by length and address. The search looks at the shortest
//! length first, so that an address in no prefix mostly takes one look, and then at the one
//! in the middle of the others. Where it finds an entry, the longest prefix is this one or longer; else it is
//! shorter. For that, a prefix leaves a *sign* at each shorter length that the search comes
//! by on its way to it. A sign carries the target of the longest prefix in front of it, so
//! that the search never has to go back: it takes no more looks than the number of lengths
//! has binary digits, and one.
//!
//! Looks into a large table wait for memory. So the search asks a small *filter* where there
//! are entries (Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM
//! 1970; with both bits of an entry in one word), and looks into the table once, for the
//! longest that the filter told of. The filter never denies an entry, but may tell of one
//! that is not there. Then the search is made again in the table itself.

#![expect(clippy::cast_possible_truncation, reason = "a hash is cut into pieces")]

use crate::{
    address::Address,
    layout::{Key, Step},
    random::draw,
};

/// Steps that a search takes at most: one, and eight for the other 128 lengths.
const STEPS: u32 = 9;

/// The value of the longest prefix of a set that holds `address`.
#[inline(always)]
pub fn longest<'a>(
    set: u32,
    address: Address,
    step: impl Fn(u32) -> Option<&'a Step>,
    filter: impl Fn(u32) -> Option<u64>,
    mut entry: impl FnMut(&Key) -> Option<u32>,
) -> Option<u32> {
    let mut last = Key::host(set, address);
    let mut id = Step::first(set);
    for _ in 0..STEPS {
        let Some(step) = step(id) else {
            break;
        };
        let key = key(set, step, address);
        let (word, bits) = place(step, key.address);
        if filter(word).is_some_and(|word| word & bits == bits) {
            last = key;
            id = step.longer;
        } else {
            id = step.shorter;
        }
    }
    if last.length == Key::HOST {
        return None;
    }
    // One that is there was come to by signs that are there.
    if let Some(value) = entry(&last) {
        return Some(value);
    }
    let mut found = None;
    let mut id = Step::first(set);
    for _ in 0..STEPS {
        let Some(step) = step(id) else {
            break;
        };
        id = match entry(&key(set, step, address)) {
            Some(value) => {
                found = Some(value);
                step.longer
            }
            None => step.shorter,
        };
    }
    found
}

#[inline(always)]
const fn key(set: u32, step: &Step, address: Address) -> Key {
    Key {
        set,
        length: step.length,
        address: address.and(step.mask),
    }
}

/// Where the filter has an entry of a step: the word, and the bits that are set in it.
#[inline(always)]
pub fn place(step: &Step, address: Address) -> (u32, u64) {
    let [a, b, c, d] = address.0.map(u64::from);
    let hash = draw(a << 32 | b ^ u64::from(step.length) << 8, c << 32 | d);
    let [word, bits] = [hash >> 32, hash].map(|half| half as u32);
    (
        step.filter + (word & step.filter_mask),
        1 << (bits & 63) | 1 << (bits >> 6 & 63),
    )
}
