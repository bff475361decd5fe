//! The delay line: what the programs, the helper devices and user space tell each other.
//!
//! A program on an interface puts [`Held`] in front of a frame and sends it to a helper
//! device. User space holds it until it is due and gives it back without; a program on
//! the helper sends it on to the interface with a [`Tag`], so that the programs there
//! know which of them have decided about it already.

use bytemuck::{Pod, Zeroable};

/// In front of a held frame. A multiple of 16 bytes, which keeps the frame aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Held {
    /// When it goes on: `CLOCK_MONOTONIC` in nanoseconds, the clock of `ppoll` and of
    /// fq. It stands still while the machine sleeps, and so do the frames.
    pub due_ns: u64,
    /// [`Self::MAGIC`]: not a frame that the device itself has sent.
    pub magic: u32,
    /// [`Self::END`], or the kernel has put a VLAN tag in front of it: that goes to
    /// offset 12, wherever the frame begins.
    pub end: u32,
}

impl Held {
    /// Spells "fcln" in memory on little-endian machines.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"fcln");
    /// Begins with no `EtherType` that a VLAN tag has.
    pub const END: u32 = u32::from_le_bytes(*b"held");
    /// Its bytes.
    pub const LEN: usize = size_of::<Self>();

    /// For a frame that is due then.
    #[inline]
    pub const fn until(due_ns: u64) -> Self {
        Self {
            due_ns,
            magic: Self::MAGIC,
            end: Self::END,
        }
    }
}

/// One direction of one interface, for the programs: a value of the map `LINES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Line {
    /// Until when frames may go to the helper: `CLOCK_MONOTONIC` in nanoseconds. User
    /// space that lives moves it on; without it nothing is held.
    pub until_ns: u64,
    /// When the program of the interface came to its hook: `CLOCK_MONOTONIC`, taken
    /// under the lock. Programs that came later run earlier.
    pub born_ns: u64,
    /// Index of the helper device; 0 where there is none.
    pub helper: u32,
    /// Index of the interface.
    pub iface: u32,
}

/// What a program of a hook knows of a frame from its [`Tag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It comes for the first time.
    New,
    /// It was decided about here, and held by a program behind this one.
    Decided,
    /// It was held by this one. The tag has to go: the programs behind see it for the
    /// first time, and so does whatever interface comes next.
    Returned,
}

/// Words of the skb's control block, which keeps them from the helper to the hook of
/// the interface. Nobody else sees them: the stack writes over them.
pub type Tag = [u32; 3];

/// No frame has it by itself, whatever the layer before left in the control block.
const TAG: u32 = u32::from_le_bytes(*b"fctg");

impl Line {
    /// On frames that come from the helper.
    #[inline]
    pub const fn tag(&self) -> Tag {
        let low = self.born_ns & 0xffff_ffff;
        [TAG, (self.born_ns >> 32) as u32, low as u32]
    }

    /// What a tag says to the program whose line this is.
    #[inline]
    pub const fn seen(&self, tag: Tag) -> Seen {
        let born_ns = ((tag[1] as u64) << 32) | tag[2] as u64;
        if tag[0] != TAG || born_ns > self.born_ns {
            // Held by a program in front of this one.
            Seen::New
        } else if born_ns == self.born_ns {
            Seen::Returned
        } else {
            Seen::Decided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(born_ns: u64) -> Line {
        Line {
            born_ns,
            ..Line::default()
        }
    }

    #[test]
    fn each_program_decides_once_whichever_of_them_holds() {
        // In the order of the hook: who came last is first.
        let programs = [(9 << 32) + 1, 9 << 32, 5].map(line);
        for holder in &programs {
            let seen = programs.each_ref().map(|line| line.seen(holder.tag()));
            let at = programs.iter().position(|line| line == holder).unwrap();
            for (n, seen) in seen.iter().enumerate() {
                let expected = match n.cmp(&at) {
                    core::cmp::Ordering::Less => Seen::Decided,
                    core::cmp::Ordering::Equal => Seen::Returned,
                    core::cmp::Ordering::Greater => Seen::New,
                };
                assert_eq!(*seen, expected);
            }
        }
    }

    #[test]
    fn frame_without_a_tag_is_new() {
        for tag in [[0; 3], [TAG ^ 1, 0, 0], [0, 0, 5]] {
            assert_eq!(line(5).seen(tag), Seen::New);
        }
    }

    #[test]
    fn metadata_keeps_the_frame_aligned() {
        assert_eq!(Held::LEN % 16, 0);
        // 0x8100 and 0x88a8, as they lie in memory.
        for tpid in [[0x81, 0], [0x88, 0xa8]] {
            assert_ne!(Held::END.to_ne_bytes()[..2], tpid);
        }
    }
}
