//! The delay line: what the programs, the helper devices and user space tell each other.
//!
//! A program on an interface sends a frame to a helper device, which holds it until it is
//! due: a TAP, where user space does, told by [`Held`] in front of the frame; or a pair of
//! veth with fq on it, told by a [`Ticket`] in the frame's control block. A program on the
//! helper sends it on to the interface with a [`Tag`], so that the programs there know
//! which of them have decided about it already.

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
    /// What the helper is: [`Self::TAP`] or [`Self::FQ`].
    pub engine: u32,
    /// 1 where packets of the interface have nothing in front of their network header.
    pub no_link_layer: u32,
    /// 1 where frames are due in the order in which they come.
    pub in_order: u32,
    /// 0
    pub pad: u32,
}

/// What a frame carries into a pair with fq and out of it again: the control block's
/// words. fq writes over the first nine bytes or eight (from Linux 6.7 on, before), so
/// what has to come out is behind these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// When it goes on: `CLOCK_MONOTONIC` in nanoseconds.
    pub due_ns: u64,
    /// The skb's mark, which is lost between network namespaces.
    pub mark: u32,
    /// The skb's priority, likewise.
    pub priority: u32,
}

/// All words of the control block.
pub type Words = [u32; 5];

/// In the third word. Its first byte may be fq's by the time the frame comes out.
const TICKET: u32 = u32::from_ne_bytes(*b"\0fct");
const LASTING: u32 = u32::from_ne_bytes([0, 0xff, 0xff, 0xff]);

impl Ticket {
    /// For the way in.
    #[inline]
    pub const fn words(&self) -> Words {
        let low = self.due_ns & 0xffff_ffff;
        let high = self.due_ns >> 32;
        [low as u32, high as u32, TICKET, self.mark, self.priority]
    }

    /// On the way in. `None` for what somebody else has sent.
    #[inline]
    pub const fn of(words: Words) -> Option<Self> {
        if words[2] != TICKET {
            return None;
        }
        Some(Self {
            due_ns: ((words[1] as u64) << 32) | words[0] as u64,
            mark: words[3],
            priority: words[4],
        })
    }

    /// Mark and priority on the way out. `None` if this kernel has not kept them.
    #[inline]
    pub const fn kept(words: Words) -> Option<(u32, u32)> {
        if words[2] & LASTING == TICKET {
            Some((words[3], words[4]))
        } else {
            None
        }
    }

    /// What fq takes for the frame's flow: where frames are due in the order in which they
    /// come, all are one. Else it is those that are due within the same 33 us: fq does not
    /// look into a flow before the frame is due that was its first when it last looked, so
    /// that one that comes later and is due earlier would wait for it. (And not always,
    /// because a flow that is new goes before those that have waited: a frame that is due
    /// when it comes to fq overtakes the others that are.)
    #[inline]
    pub const fn flow(&self, in_order: bool) -> u32 {
        if in_order {
            1
        } else {
            (self.due_ns >> 15 & 0xffff_ffff) as u32
        }
    }
}

/// Index of the far end of a pair with fq, by which the program knows where it is. The
/// kernel counts from 1, and comes here last.
pub const FAR_END: u32 = i32::MAX as u32;

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
    /// A TAP: user space holds the frames.
    pub const TAP: u32 = 0;
    /// A pair of veth: fq holds the frames.
    pub const FQ: u32 = 1;

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

    impl Line {
        /// The control block with its tag.
        fn tagged(&self) -> Words {
            let [a, b, c] = self.tag();
            [0, 0, a, b, c]
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
    fn ticket_comes_out_as_far_as_fq_leaves_it() {
        let ticket = Ticket {
            due_ns: 0x1234_5678_9abc_def0,
            mark: 7,
            priority: 0x1_0005,
        };
        let mut words = ticket.words();
        assert_eq!(Ticket::of(words), Some(ticket));
        // `struct fq_skb_cb`: when to send it, and the band.
        words[..2].fill(!0);
        let mut third = words[2].to_ne_bytes();
        third[0] = 2;
        words[2] = u32::from_ne_bytes(third);
        assert_eq!(Ticket::kept(words), Some((7, 0x1_0005)));
        assert_eq!(Ticket::of(words), None);
        for words in [[0; 5], [!0; 5], line(5).tagged()] {
            assert_eq!((Ticket::of(words), Ticket::kept(words)), (None, None));
        }
    }

    #[test]
    fn flow_is_a_moment() {
        let flow = |due_ns| {
            let (mark, priority) = (0, 0);
            Ticket {
                due_ns,
                mark,
                priority,
            }
            .flow(false)
        };
        assert_eq!(flow(1 << 40), flow((1 << 40) + 32_767));
        assert_ne!(flow(1 << 40), flow((1 << 40) + 32_768));
        assert_ne!(flow(1 << 40), flow((1 << 40) + 3_600_000_000_000));
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
