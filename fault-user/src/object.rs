//! The BPF objects inside this binary.

use fault_common::layout::ABI;
use object::{Object as _, ObjectSection as _};

use crate::error::KernelError;

/// An object file whose layouts are the ones of this binary.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    bytes: &'a [u8],
}

impl Object<'static> {
    /// The one for all but `--verbose`.
    pub fn embedded() -> Result<Self, KernelError> {
        Self::check(aya::include_bytes_aligned!(concat!(
            env!("OUT_DIR"),
            "/faultctl.o"
        )))
    }

    /// The one whose programs tell of packets.
    pub fn verbose() -> Result<Self, KernelError> {
        Self::check(aya::include_bytes_aligned!(concat!(
            env!("OUT_DIR"),
            "/verbose.o"
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with nothing but the section, made by hand: header, the section's
    /// bytes, the names of sections, the table of sections.
    fn elf(abi: u64) -> Vec<u8> {
        let names = b"\0faultctl_abi\0.shstrtab\0";
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        file.extend([1, 0, 247, 0, 1, 0, 0, 0]); // relocatable, EM_BPF, version 1
        file.extend([0; 16]);
        let table = (64 + 8 + names.len()).next_multiple_of(8);
        file.extend((table as u64).to_le_bytes());
        file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        file.extend(abi.to_le_bytes());
        file.extend(names);
        file.resize(table, 0);
        for (name, kind, offset, size) in [
            (0_u32, 0_u32, 0_u64, 0_u64),
            (1, 1, 64, 8),
            (14, 3, 72, names.len() as u64),
        ] {
            file.extend(name.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend([0; 16]);
            file.extend(offset.to_le_bytes());
            file.extend(size.to_le_bytes());
            file.extend([0; 24]);
        }
        file
    }

    #[test]
    fn object_of_another_version_is_refused() {
        assert!(Object::check(&elf(ABI)).is_ok());
        for other in [elf(ABI ^ 1), b"no ELF file".to_vec()] {
            let error = Object::check(&other).expect_err("another version");
            assert!(matches!(error, KernelError::ObjectVersion), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn stub_of_a_plain_build_is_refused_with_the_command_that_helps() {
        let error = Object::check(&[]).expect_err("a stub");
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("cargo xtask build-ebpf"))
        );
    }
}
