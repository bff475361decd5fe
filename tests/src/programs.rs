//! What faultctl has in the kernel, read without faultctl.

use aya::{
    maps::{Array, Map, MapData, MapInfo},
    programs::loaded_programs,
};
use fault_common::layout::Owner;

use crate::{lab::Lab, namespace::Namespace};

/// Programs of faultctl that belong to a namespace, with the process that loaded each.
pub fn of(namespace: &Namespace) -> Vec<(String, u32)> {
    let pid = |(name, owner): (String, Owner)| (name, owner.pid);
    with_owners(namespace).into_iter().map(pid).collect()
}

/// The same with all that is known of their owners.
pub fn with_owners(namespace: &Namespace) -> Vec<(String, Owner)> {
    let inode = namespace.inode();
    loaded_programs()
        .filter_map(Result::ok)
        .filter_map(|program| {
            let name = program.name_as_str()?.to_owned();
            if !name.starts_with("faultctl_") {
                return None;
            }
            // A program may go while it is looked at.
            let maps = program.map_ids().ok()??;
            let owner = maps.into_iter().find_map(owner)?;
            (owner.netns_inode == inode).then_some((name, owner))
        })
        .collect()
}

fn owner(map: u32) -> Option<Owner> {
    if MapInfo::from_id(map).ok()?.name_as_str()? != "OWNER" {
        return None;
    }
    let map = Map::Array(MapData::from_id(map).ok()?);
    Array::<_, Owner>::try_from(map).ok()?.get(&0, 0).ok()
}

/// Qdiscs and filters of the near interface, as tc(8) shows them, without counters.
pub fn hooks(lab: &Lab) -> String {
    let iface = &lab.iface;
    [
        format!("qdisc show dev {iface}"),
        format!("filter show dev {iface} egress"),
        format!("filter show dev {iface} ingress"),
    ]
    .iter()
    .map(|command| lab.near.tc(command))
    .collect()
}
