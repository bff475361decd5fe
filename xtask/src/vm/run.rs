//! Files of one run, gone with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::Result;

use crate::vm;

/// A directory in target/vm/run that is named after this process.
pub struct Run(PathBuf);

impl Run {
    /// An empty one. Those of processes that were killed are removed.
    pub fn new() -> Result<Self> {
        let runs = vm::directory().join("run");
        fs::create_dir_all(&runs)?;
        sweep(&runs)?;
        let run = runs.join(process::id().to_string());
        fs::create_dir_all(&run)?;
        Ok(Self(run))
    }

    /// Forgets what an earlier guest said.
    pub fn clear(&self) -> Result<()> {
        for path in [self.console_at(), self.control_at()] {
            fs::write(path, "")?;
        }
        Ok(())
    }

    /// The guest's files.
    pub fn initramfs(&self) -> PathBuf {
        self.0.join("initramfs.cpio")
    }

    /// Where its kernel's console goes.
    pub fn console_at(&self) -> PathBuf {
        self.0.join("console")
    }

    /// Where it says how far it is.
    pub fn control_at(&self) -> PathBuf {
        self.0.join("control")
    }

    /// What its kernel said.
    pub fn console(&self) -> String {
        read(&self.console_at())
    }

    /// How far it is.
    pub fn control(&self) -> String {
        read(&self.control_at())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

fn sweep(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs)? {
        let entry = entry?;
        if !Path::new("/proc").join(entry.file_name()).exists() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_dead_are_removed() {
        let runs = std::env::temp_dir().join(format!("faultctl-runs-{}", process::id()));
        let own = runs.join(process::id().to_string());
        // Above the kernel's highest, 2^22.
        let dead = runs.join("4194305");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(&dead).unwrap();
        sweep(&runs).unwrap();
        assert_eq!((own.exists(), dead.exists()), (true, false));
        fs::remove_dir_all(runs).unwrap();
    }
}
