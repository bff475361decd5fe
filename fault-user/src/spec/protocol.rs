//! IP protocols.

use std::str::FromStr;

use fault_common::packet::protocol;

use super::ValueError;

/// An IP protocol as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP of both families: 1 on IPv4 and 58 on IPv6.
    Icmp,
    /// A number of IANA's registry.
    Number(u8),
}

impl Protocol {
    /// The numbers that it stands for.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        let (first, second) = match self {
            Self::Icmp => (protocol::ICMP, Some(protocol::ICMPV6)),
            Self::Number(number) => (number, None),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether packets of it have ports.
    pub fn has_ports(self) -> bool {
        matches!(
            self,
            Self::Number(
                protocol::TCP
                    | protocol::UDP
                    | protocol::DCCP
                    | protocol::SCTP
                    | protocol::UDP_LITE
            )
        )
    }
}

impl FromStr for Protocol {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "icmp" => Self::Icmp,
            "tcp" => Self::Number(protocol::TCP),
            "udp" => Self::Number(protocol::UDP),
            "sctp" => Self::Number(protocol::SCTP),
            number if number.starts_with(|c: char| c.is_ascii_digit()) => {
                Self::Number(number.parse().map_err(|_| ValueError::NotAProtocol)?)
            }
            _ => return Err(ValueError::NotAProtocol),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        assert_eq!("tcp".parse(), Ok(Protocol::Number(6)));
        assert_eq!("UDP".parse(), Ok(Protocol::Number(17)));
        assert_eq!("132".parse(), Ok(Protocol::Number(132)));
        for text in ["", "256", "-1", "+6", "http", "0x6"] {
            assert_eq!(
                text.parse::<Protocol>(),
                Err(ValueError::NotAProtocol),
                "{text}"
            );
        }
    }

    #[test]
    fn icmp_is_that_of_both_families_and_has_no_ports() {
        assert_eq!(Protocol::Icmp.numbers().collect::<Vec<_>>(), [1, 58]);
        assert!(!Protocol::Icmp.has_ports());
        assert!(Protocol::Number(33).has_ports());
    }
}
