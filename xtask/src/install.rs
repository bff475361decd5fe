//! Installing a release.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{cargo, command, command::say, ebpf, toolchain::Wanted};

/// Builds a release and puts the binary below `destdir` and `prefix`.
pub fn install(prefix: &Path, destdir: Option<&Path>, wanted: &Wanted) -> Result<()> {
    ebpf::build(wanted)?;
    let binary = cargo::binary("faultctl", "release")?;
    let target = target(prefix, destdir);
    // coreutils' install replaces the file, so a running faultctl does not matter.
    let program = Path::new("install");
    let mut command = if may_write(&target) {
        Command::new(program)
    } else {
        command::as_root(program, &[])?
    };
    command.args(["-D", "-m", "0755"]).args([&binary, &target]);
    command::run(
        &mut command,
        "choose a directory you may write with `--prefix`",
    )?;
    say(&format!("installed {}", target.display()));
    Ok(())
}

fn target(prefix: &Path, destdir: Option<&Path>) -> PathBuf {
    let inside = prefix.join("bin/faultctl");
    match destdir {
        Some(destdir) => destdir.join(inside.strip_prefix("/").unwrap_or(&inside)),
        None => inside,
    }
}

/// Whether the nearest directory that exists lets us create something.
fn may_write(target: &Path) -> bool {
    let nearest = target.ancestors().skip(1).find(|path| path.is_dir());
    nearest.is_some_and(|directory| {
        let probe = directory.join(format!(".faultctl-install-{}", std::process::id()));
        fs::File::create_new(&probe).is_ok_and(|_| fs::remove_file(&probe).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destdir_comes_before_an_absolute_prefix() {
        let prefix = Path::new("/usr/local");
        assert_eq!(target(prefix, None), Path::new("/usr/local/bin/faultctl"));
        assert_eq!(
            target(prefix, Some(Path::new("/tmp/d"))),
            Path::new("/tmp/d/usr/local/bin/faultctl")
        );
    }
}
