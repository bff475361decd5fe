//! Objects as the user knows them.

use std::fmt::Write as _;

use super::{Class, FAMILY, NEIGH_FLAGS, ROUTE_TABLE, V6, address, nexthop_id};
use crate::down::message::Message;

/// In the words of ip(8), without the interface.
pub fn describe(message: &Message) -> String {
    let family = message.header[FAMILY];
    let text = |kind| address(message.attribute(kind)).map(|it| it.to_string());
    match Class::of(message) {
        Some(Class::Address) => format!(
            "address {}/{}",
            text(libc::IFA_LOCAL)
                .or_else(|| text(libc::IFA_ADDRESS))
                .unwrap_or_default(),
            message.header[1],
        ),
        Some(Class::Neighbour) => {
            let kind = match message.header[NEIGH_FLAGS] & libc::NTF_PROXY {
                0 => "neighbour",
                _ => "neighbour proxy",
            };
            format!("{kind} {}", text(libc::NDA_DST).unwrap_or_default())
        }
        Some(Class::Nexthop) => format!("nexthop {}", nexthop_id(message).unwrap_or(0)),
        _ => {
            let to = match (text(libc::RTA_DST), family) {
                (Some(to), _) => format!("{to}/{}", message.header[1]),
                (None, V6) => "default (IPv6)".to_owned(),
                (None, _) => "default".to_owned(),
            };
            let mut route = format!("route {to}");
            if let Some(via) = text(libc::RTA_GATEWAY) {
                let _ = write!(route, " via {via}");
            }
            let table = message
                .number(libc::RTA_TABLE)
                .unwrap_or(message.header[ROUTE_TABLE].into());
            if table != u32::from(libc::RT_TABLE_MAIN) {
                let _ = write!(route, " table {table}");
            }
            if let Some(metric) = message.number(libc::RTA_PRIORITY) {
                let _ = write!(route, " metric {metric}");
            }
            route
        }
    }
}
