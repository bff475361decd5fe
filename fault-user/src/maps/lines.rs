//! Where the programs see the delay line, and that somebody serves it.

use std::sync::{Mutex, PoisonError};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError},
};
use fault_common::{layout::Direction, line::Line};

use super::{descriptor, map};
use crate::error::KernelError;

/// The line of one direction.
pub struct Lines {
    array: Mutex<Array<MapData, Line>>,
    direction: Direction,
    line: Line,
}

const NAME: &str = "LINES";

impl Lines {
    /// Of an object, which is told of the line.
    pub fn of(ebpf: &Ebpf, direction: Direction, line: Line) -> Result<Self, KernelError> {
        let data = MapData::from_fd(descriptor(ebpf, NAME)?).map_err(KernelError::map(NAME))?;
        let lines = Self {
            array: Mutex::new(map(NAME, Map::from_map_data(data).ok())?),
            direction,
            line,
        };
        lines.renew(line.until_ns).map_err(KernelError::map(NAME))?;
        Ok(lines)
    }

    /// Says when the program of the interface came to its hook.
    pub fn set_born(&mut self, born_ns: u64) -> Result<(), KernelError> {
        self.line.born_ns = born_ns;
        self.renew(0).map_err(KernelError::map(NAME))
    }

    /// Lets the programs use it until then, `CLOCK_MONOTONIC`.
    pub fn renew(&self, until_ns: u64) -> Result<(), MapError> {
        let line = Line {
            until_ns,
            ..self.line
        };
        let mut array = self.array.lock().unwrap_or_else(PoisonError::into_inner);
        array.set(self.direction as u32, line, 0)
    }
}
