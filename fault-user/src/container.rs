//! Containers, by the cgroups of their processes: every runtime puts the id there.

use std::{collections::BTreeMap, fmt, fs, str::FromStr};

use crate::{error::KernelError, process, spec::ValueError};

/// A container's id, or how it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerId(String);

/// Digits of a whole id.
const WHOLE: usize = 64;
/// Digits that runtimes print, and the least that is taken.
const SHORT: usize = 12;

impl FromStr for ContainerId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // As Kubernetes has it: `containerd://4f1c...`
        let digits = text.rsplit("://").next().unwrap_or(text);
        let is_id = (SHORT..=WHOLE).contains(&digits.len())
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_id
            .then(|| Self(digits.into()))
            .ok_or(ValueError::NotAContainerId)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ContainerId {
    /// The first process of the container, in whose network namespace the container is:
    /// the others may have gone elsewhere.
    pub fn process(&self) -> Result<u32, KernelError> {
        let mut first = BTreeMap::<String, (u64, u32)>::new();
        for pid in process::all().map_err(KernelError::system("list the processes"))? {
            // One that has just ended belongs to nothing.
            let (Ok(cgroups), Some(start)) = (
                fs::read_to_string(format!("/proc/{pid}/cgroup")),
                process::start_ticks(pid),
            ) else {
                continue;
            };
            if let Some(id) = container(&cgroups).filter(|id| id.starts_with(&self.0)) {
                let first = first.entry(id.into()).or_insert((start, pid));
                *first = (*first).min((start, pid));
            }
        }
        let mut matching = first.into_iter();
        match (matching.next(), matching.next()) {
            (None, _) => Err(KernelError::NoContainer { id: self.clone() }),
            (Some((_, (_, pid))), None) => Ok(pid),
            (Some((one, _)), Some((other, _))) => Err(KernelError::SeveralContainers {
                id: self.clone(),
                matching: [one, other]
                    .into_iter()
                    .chain(matching.map(|(id, _)| id))
                    .collect(),
            }),
        }
    }
}

/// The container that a process is in, by its /proc/PID/cgroup, cgroups(7): the innermost
/// whole id in a path. What watches over a container from outside (conmon) has the id in
/// its path, too, and is not inside.
fn container(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.rsplit('/')
            .filter(|name| !name.contains("conmon"))
            .find_map(|name| {
                name.split(|c: char| !c.is_ascii_hexdigit())
                    .find(|word| word.len() == WHOLE)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_or_short_and_hexadecimal() {
        let whole = "0123456789abcdef".repeat(4);
        for good in [
            &whole,
            "0123456789ab",
            "containerd://0123456789abc",
            &format!("docker://{whole}"),
        ] {
            let id: ContainerId = good.parse().expect("an id");
            assert!(good.ends_with(&id.to_string()));
        }
        for bad in [
            "",
            "0123456789a",
            "0123456789AB",
            "web",
            "my-container-1",
            &format!("{whole}0"),
        ] {
            assert_eq!(
                bad.parse::<ContainerId>(),
                Err(ValueError::NotAContainerId),
                "{bad}"
            );
        }
    }

    #[test]
    fn paths_of_every_runtime_name_the_container() {
        let [id, outer] = ["ab01".repeat(16), "cd23".repeat(16)];
        for path in [
            format!("0::/system.slice/docker-{id}.scope"),
            format!("0::/docker/{id}/init"),
            format!("12:pids:/docker/{id}\n0::/"),
            format!("0::/machine.slice/libpod-{id}.scope/container"),
            format!("0::/kubepods.slice/kubepods-pod6e5.slice/cri-containerd-{id}.scope"),
            format!("0::/kubepods/burstable/pod6e5-11/{id}"),
            format!("0::/../crio-{id}.scope"),
            format!("0::/docker-{outer}.scope/kubepods/{id}"),
        ] {
            assert_eq!(container(&path), Some(&*id), "{path}");
        }
        for path in [
            "0::/".to_owned(),
            "0::/user.slice/user-0.slice/session-1.scope".to_owned(),
            format!("0::/machine.slice/libpod-conmon-{id}.scope"),
            format!("0::/{id}0"),
            format!("0::/{}", &id[..32]),
        ] {
            assert_eq!(container(&path), None, "{path}");
        }
    }
}
