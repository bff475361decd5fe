//! Frames that wait, in the order in which they are due.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    ops::Range,
};

/// What may wait in one direction of an interface. What comes beyond is lost, and
/// counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames; a super-packet is one.
    pub frames: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

impl Limits {
    /// For so many frames.
    pub fn of(frames: u32) -> Self {
        Self {
            frames: usize::try_from(frames).unwrap_or(usize::MAX),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    /// A second of 4 Gbit/s, or a million small packets.
    fn default() -> Self {
        Self {
            frames: 1 << 20,
            bytes: 512 << 20,
        }
    }
}

/// A frame, with the header that the TAP wants.
#[derive(Debug)]
pub struct Frame {
    /// Its memory.
    pub buffer: Vec<u8>,
    /// Where in it the frame lies.
    pub range: Range<usize>,
}

/// Frames by when they are due; those of the same moment in the order of arrival.
#[derive(Debug)]
pub struct Queue {
    /// Those that came in order, which is all of them where the delay is constant:
    /// nothing to be sorted.
    in_order: VecDeque<Entry>,
    others: BinaryHeap<Entry>,
    limits: Limits,
    bytes: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    due_ns: u64,
    sequence: u64,
    frame: Frame,
}

impl Queue {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            in_order: VecDeque::new(),
            others: BinaryHeap::new(),
            limits,
            bytes: 0,
            sequence: 0,
        }
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }

    /// Takes a frame in; gives it back if there is no room.
    pub fn push(&mut self, due_ns: u64, frame: Frame) -> Result<(), Frame> {
        let size = frame.buffer.capacity();
        if self.len() >= self.limits.frames || self.bytes + size > self.limits.bytes {
            return Err(frame);
        }
        self.bytes += size;
        self.sequence += 1;
        let entry = Entry {
            due_ns,
            sequence: self.sequence,
            frame,
        };
        if self
            .in_order
            .back()
            .is_none_or(|last| last.due_ns <= due_ns)
        {
            self.in_order.push_back(entry);
        } else {
            self.others.push(entry);
        }
        Ok(())
    }

    /// When the next frame is due.
    pub fn next_ns(&self) -> Option<u64> {
        self.first().map(|entry| entry.due_ns)
    }

    /// Takes the next frame out if it is due by then.
    pub fn pop(&mut self, now_ns: u64) -> Option<(u64, Frame)> {
        if self.next_ns()? > now_ns {
            return None;
        }
        let entry = if self.is_first_in_order() {
            self.in_order.pop_front()
        } else {
            self.others.pop()
        }?;
        self.bytes -= entry.frame.buffer.capacity();
        Some((entry.due_ns, entry.frame))
    }

    fn first(&self) -> Option<&Entry> {
        if self.is_first_in_order() {
            self.in_order.front()
        } else {
            self.others.peek()
        }
    }

    fn is_first_in_order(&self) -> bool {
        match (self.in_order.front(), self.others.peek()) {
            // The heap's greatest is the earliest.
            (Some(one), Some(other)) => one > other,
            (_, other) => other.is_none(),
        }
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due_ns, other.sequence).cmp(&(self.due_ns, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(number: usize) -> Frame {
        let buffer = number.to_ne_bytes().to_vec();
        let range = 0..buffer.len();
        Frame { buffer, range }
    }

    fn number(frame: &Frame) -> usize {
        usize::from_ne_bytes(*frame.buffer.first_chunk().unwrap())
    }

    const ROOM: Limits = Limits {
        frames: 1000,
        bytes: 100_000,
    };

    proptest! {
        #[test]
        fn frames_leave_by_when_they_are_due_and_else_as_they_came(
            dues in prop::collection::vec(0_u64..20, 0..200)
        ) {
            let mut queue = Queue::new(ROOM);
            for (n, due) in dues.iter().enumerate() {
                queue.push(*due, frame(n)).unwrap();
            }
            let mut expected: Vec<_> = dues.iter().copied().zip(0..).collect();
            expected.sort_unstable();
            let mut left = Vec::new();
            for now in 0..20 {
                while let Some((due, frame)) = queue.pop(now) {
                    prop_assert_eq!(due, now);
                    left.push((due, number(&frame)));
                }
            }
            prop_assert_eq!(left, expected);
            prop_assert_eq!((queue.len(), queue.bytes), (0, 0));
        }
    }

    #[test]
    fn beyond_either_limit_a_frame_comes_back() {
        let mut queue = Queue::new(Limits { frames: 2, ..ROOM });
        assert!(queue.push(5, frame(0)).is_ok());
        assert!(queue.push(3, frame(1)).is_ok());
        assert_eq!(queue.push(4, frame(2)).map_err(|it| number(&it)), Err(2));
        assert_eq!(queue.pop(3).map(|(_, it)| number(&it)), Some(1));
        assert!(queue.push(4, frame(2)).is_ok());

        let mut queue = Queue::new(Limits { bytes: 15, ..ROOM });
        assert!(queue.push(5, frame(0)).is_ok());
        assert!(queue.push(5, frame(1)).is_err());
    }

    #[test]
    fn nothing_leaves_early() {
        let mut queue = Queue::new(ROOM);
        assert_eq!(queue.next_ns(), None);
        queue.push(5, frame(0)).unwrap();
        assert!(queue.pop(4).is_none());
        assert_eq!(queue.next_ns(), Some(5));
    }
}
