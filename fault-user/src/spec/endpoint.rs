//! Addresses, networks, host names and files of them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};

use super::ValueError;
use crate::Error;

/// What `--to` and `--except` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address (with the longest prefix) or a network.
    Network(IpNet),
    /// A host name: all its addresses.
    Name(String),
    /// A file with one of the others a line.
    File(PathBuf),
}

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(path) = text.strip_prefix('@') {
            return if path.is_empty() {
                Err(ValueError::NoFileName)
            } else {
                Ok(Self::File(path.into()))
            };
        }
        match parse_network(text) {
            Ok(network) => Ok(Self::Network(network)),
            Err(ValueError::NotAnAddress) if is_host_name(text) => Ok(Self::Name(text.into())),
            Err(ValueError::NotAnAddress) => Err(ValueError::NotAnEndpoint),
            Err(other) => Err(other),
        }
    }
}

/// Reads an address or a network. IPv4 mapped into IPv6 (`::ffff:10.0.0.7`) is
/// the IPv4 address that it stands for.
pub fn parse_network(text: &str) -> Result<IpNet, ValueError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = match address.parse() {
        Ok(address) => address,
        Err(_) => {
            return Err(match address.split_once('%') {
                Some((without, _)) if without.parse::<Ipv6Addr>().is_ok() => ValueError::Zone {
                    address: without.into(),
                },
                _ => ValueError::NotAnAddress,
            });
        }
    };
    let max = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length
            .parse()
            .ok()
            .filter(|parsed| *parsed <= max && !length.starts_with('+'))
            .ok_or(ValueError::PrefixLength { address, max })?,
        None => max,
    };
    let network =
        IpNet::new(address, length).map_err(|_| ValueError::PrefixLength { address, max })?;
    if network.trunc() != network {
        return Err(ValueError::HostBits {
            network: network.trunc(),
            address,
        });
    }
    Ok(unmap(network))
}

/// Reads an address with a port, as in `127.0.0.1:9909`.
pub fn parse_socket_address(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| ValueError::NotASocketAddress)
}

/// The networks behind endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Those that were given as networks.
    pub networks: Vec<IpNet>,
    /// Host names, and what they have.
    pub names: BTreeMap<String, Vec<IpNet>>,
}

impl Resolved {
    /// All of them, each once.
    pub fn all(&self) -> Vec<IpNet> {
        self.clone().into_all()
    }

    /// The same. Kept is only what will be asked for again: where there are names.
    pub fn take_all(&mut self) -> Vec<IpNet> {
        if self.names.is_empty() {
            std::mem::take(self).into_all()
        } else {
            self.all()
        }
    }

    fn into_all(self) -> Vec<IpNet> {
        let mut all = self.networks;
        all.extend(self.names.values().flatten());
        all.sort_unstable();
        all.dedup();
        all
    }

    fn name(&mut self, name: &str) -> Result<(), Error> {
        if !self.names.contains_key(name) {
            self.names.insert(name.into(), look_up(name)?);
        }
        Ok(())
    }
}

/// Reads the files, and asks the system's resolver for the names, once.
pub fn resolve(endpoints: &[Endpoint]) -> Result<Resolved, Error> {
    let mut resolved = Resolved::default();
    for endpoint in endpoints {
        match endpoint {
            Endpoint::Network(network) => resolved.networks.push(*network),
            Endpoint::Name(name) => resolved.name(name)?,
            Endpoint::File(path) => read_file(path, &mut resolved)?,
        }
    }
    Ok(resolved)
}

/// All addresses of a host name, sorted.
pub fn look_up(name: &str) -> Result<Vec<IpNet>, Error> {
    let no_address = |source| Error::HostName {
        name: name.into(),
        source,
    };
    let mut addresses: Vec<IpNet> = (name, 0)
        .to_socket_addrs()
        .map_err(|error| no_address(Some(error)))?
        .map(|address| unmap(IpNet::from(address.ip())))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(no_address(None));
    }
    Ok(addresses)
}

fn read_file(path: &Path, resolved: &mut Resolved) -> Result<(), Error> {
    each_line(path, |line, text| {
        match text.parse() {
            Ok(Endpoint::Network(network)) => resolved.networks.push(network),
            Ok(Endpoint::Name(name)) => {
                resolved.name(&name).map_err(|source| Error::FileName {
                    path: path.into(),
                    line,
                    source: Box::new(source),
                })?;
            }
            Ok(Endpoint::File(_)) => {
                return Err(Error::file_line(path, line, text, ValueError::NestedFile));
            }
            Err(source) => return Err(Error::file_line(path, line, text, source)),
        }
        Ok(())
    })
}

/// Reads a file line by line: its number, from 1, and what is in front of a comment, if that is
/// anything. At least one such line has to be there.
pub(super) fn each_line(
    path: &Path,
    mut take: impl FnMut(usize, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let unreadable = |source| Error::File {
        path: path.into(),
        source,
    };
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    let mut empty = true;
    for index in 1.. {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let Ok(line) = str::from_utf8(&line) else {
            let text = String::from_utf8_lossy(line.trim_ascii_end());
            let text = text.escape_debug().to_string();
            return Err(Error::file_line(path, index, &text, ValueError::NotText));
        };
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        empty = false;
        take(index, text)?;
    }
    if empty {
        return Err(Error::EmptyFile { path: path.into() });
    }
    Ok(())
}

fn unmap(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && let Some(address) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(address, length)
    {
        return v4.into();
    }
    network
}

/// Whether it can be a host name (RFC 1123 section 2.1, with the underscores
/// that are in use), and not an address with a typing error.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last_is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && !last_is_number && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn net(text: &str) -> IpNet {
        parse_network(text).unwrap()
    }

    #[test]
    fn reads_addresses_networks_names_and_files() {
        let network = |text: &str| Ok(Endpoint::Network(text.parse().unwrap()));
        assert_eq!("10.0.0.7".parse(), network("10.0.0.7/32"));
        assert_eq!("10.0.0.0/8".parse(), network("10.0.0.0/8"));
        assert_eq!("0.0.0.0/0".parse(), network("0.0.0.0/0"));
        assert_eq!("fd00::1".parse(), network("fd00::1/128"));
        assert_eq!("::/0".parse(), network("::/0"));
        for name in [
            "localhost",
            "db-1.example.org",
            "_sip.example.",
            "1e100.net",
            "7z",
        ] {
            assert_eq!(name.parse(), Ok(Endpoint::Name(name.into())));
        }
        assert_eq!("@a b.txt".parse(), Ok(Endpoint::File("a b.txt".into())));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(net("::ffff:10.0.0.7"), net("10.0.0.7"));
        assert_eq!(net("::ffff:10.0.0.0/104"), net("10.0.0.0/8"));
        assert_eq!(net("::ffff:0:0/96"), net("0.0.0.0/0"));
        assert!(matches!(net("::fffe:0:0/95"), IpNet::V6(_)));
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        for text in [
            "",
            "10.0.0.300",
            "10.0.0",
            "a..b",
            "-a",
            "a/8",
            "fd00::1::2",
            "a b",
            "*",
            "10.0.0.1:80",
            "[::1]",
        ] {
            assert_eq!(
                text.parse::<Endpoint>(),
                Err(ValueError::NotAnEndpoint),
                "{text}"
            );
        }
        for text in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/255.0.0.0",
            "::/+1",
            "::/-1",
        ] {
            assert!(
                matches!(
                    text.parse::<Endpoint>(),
                    Err(ValueError::PrefixLength { .. })
                ),
                "{text}"
            );
        }
        assert_eq!("@".parse::<Endpoint>(), Err(ValueError::NoFileName));
        assert_eq!(
            parse_network("fe80::1%eth0"),
            Err(ValueError::Zone {
                address: "fe80::1".into()
            })
        );
    }

    #[test]
    fn host_bits_are_refused_with_the_network() {
        let error = parse_network("10.0.0.7/8").unwrap_err();
        assert_eq!(
            error.hint().as_deref(),
            Some("the network is `10.0.0.0/8`, the host alone `10.0.0.7`")
        );
    }

    fn file(content: &[u8]) -> (tempfile::NamedTempFile, Vec<Endpoint>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let endpoints = vec![Endpoint::File(file.path().into())];
        (file, endpoints)
    }

    #[test]
    fn file_holds_one_a_line_with_comments_and_duplicates_once() {
        let (_file, endpoints) =
            file(b"# ours\n\n10.0.0.7 # db\r\n  fd00::/8\n10.0.0.7\n::ffff:10.0.0.7");
        assert_eq!(
            resolve(&endpoints).unwrap().all(),
            [net("10.0.0.7"), net("fd00::/8")]
        );
    }

    #[test]
    fn bad_line_is_numbered() {
        for (content, want) in [
            (&b"10.0.0.1\n\n10.0.0.0/40\n"[..], 3),
            (b"10.0.0.1\nx y\n", 2),
            (b"@other\n", 1),
            (b"10.0.0.1\n\xff\n", 2),
        ] {
            let (_file, endpoints) = file(content);
            let error = resolve(&endpoints).unwrap_err();
            assert!(
                matches!(error, Error::FileLine { line, .. } if line == want),
                "{error:?}"
            );
            assert_eq!(error.exit_code(), 1);
        }
    }

    #[test]
    fn bad_line_deep_in_a_large_file_is_numbered() {
        let mut content = "10.0.0.1\n".repeat(300_000);
        content.insert_str(content.len() / 2, "10.0.0.256\n");
        let (_file, endpoints) = file(content.as_bytes());
        let error = resolve(&endpoints).unwrap_err();
        assert!(
            matches!(&error, Error::FileLine { line: 150_001, text, .. } if text == "10.0.0.256"),
            "{error:?}"
        );
    }

    #[test]
    fn file_without_an_address_is_refused() {
        for content in [&b""[..], b"\n\n", b"# nothing\n"] {
            let (_file, endpoints) = file(content);
            assert!(matches!(resolve(&endpoints), Err(Error::EmptyFile { .. })));
        }
    }

    #[test]
    fn names_resolve_to_all_their_addresses() {
        let resolved = resolve(&[Endpoint::Name("localhost".into())]).unwrap();
        let networks = resolved.all();
        assert_eq!(resolved.names["localhost"], networks);
        assert!(networks.iter().all(|network| network.addr().is_loopback()));
        assert!(!networks.is_empty());
    }
}
