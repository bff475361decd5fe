//! What maps cost the kernel.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::MapData;

/// The bytes that the kernel charges for maps, by the `memlock` of their fdinfo (proc(5)).
/// From Linux 6.4 on that is what they take; before, an estimate from keys and values,
/// about half of it for a table.
pub(super) fn charged<'a>(maps: impl Iterator<Item = &'a MapData>) -> u64 {
    maps.filter_map(|map| {
        let fd = map.fd().as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        memlock(&text)
    })
    .sum()
}

fn memlock(fdinfo: &str) -> Option<u64> {
    let value = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memlock_is_found_among_other_fields() {
        let text = "pos:\t0\nmap_type:\t1\nmax_entries:\t8\nmemlock:\t12544\nmap_id:\t7\n";
        assert_eq!(memlock(text), Some(12_544));
        assert_eq!(memlock("pos:\t0\n"), None);
    }
}
