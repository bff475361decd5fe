//! The BPF object inside this binary.

use fault_common::layout::ABI;
use object::{Object as _, ObjectSection as _};

use crate::error::KernelError;

/// An object file whose layouts are the ones of this binary.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    bytes: &'a [u8],
}

impl Object<'static> {
    /// The one that was built in.
    pub fn embedded() -> Result<Self, KernelError> {
        Self::check(aya::include_bytes_aligned!(concat!(
            env!("OUT_DIR"),
            "/faultctl.o"
        )))
    }
}

impl<'a> Object<'a> {
    /// Takes an object file after a look at its section `faultctl_abi`.
    pub fn check(bytes: &'a [u8]) -> Result<Self, KernelError> {
        if bytes.is_empty() {
            return Err(KernelError::NoObject);
        }
        let abi = object::File::parse(bytes).ok().and_then(|file| {
            let section = file.section_by_name("faultctl_abi")?;
            let bytes = section.data().ok()?.first_chunk().copied()?;
            Some(u64::from_le_bytes(bytes))
        });
        if abi == Some(ABI) {
            Ok(Self { bytes })
        } else {
            Err(KernelError::ObjectVersion)
        }
    }

    /// The ELF file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
