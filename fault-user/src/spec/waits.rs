//! Far ends that packets wait for, each for a time of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    ValueError,
    endpoint::{each_line, parse_network},
    hold::parse_delay,
};
use crate::Error;

/// What `latency` is told: one time, or a file of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeOrFile {
    /// For all far ends.
    Time(Duration),
    /// With a far end and its time a line.
    File(PathBuf),
}

/// Far ends and their times, each far end once, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits(Vec<(IpNet, Duration)>);

/// Reads a delay, or `@FILE`.
pub fn parse(text: &str) -> Result<TimeOrFile, ValueError> {
    match text.strip_prefix('@') {
        Some("") => Err(ValueError::NoFileName),
        Some(path) => Ok(TimeOrFile::File(path.into())),
        None => parse_delay(text).map(TimeOrFile::Time),
    }
}

impl Waits {
    /// Reads a file: an address or a network, white space, and a time a line; `#` starts a
    /// comment.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut waits: Vec<(IpNet, Duration, usize)> = Vec::new();
        each_line(path, |line, text| {
            let (network, time) =
                parse_line(text).map_err(|source| Error::file_line(path, line, text, source))?;
            waits.push((network, time, line));
            Ok(())
        })?;
        waits.sort_unstable();
        for pair in waits.windows(2) {
            let ((before, other, first), (network, time, line)) = (pair[0], pair[1]);
            if before == network && other != time {
                let (first, line) = (first.min(line), first.max(line));
                let source = ValueError::AnotherTime { line: first };
                return Err(Error::file_line(path, line, &network.to_string(), source));
            }
        }
        waits.dedup_by_key(|(network, _, _)| *network);
        Ok(Self(
            waits
                .into_iter()
                .map(|(network, time, _)| (network, time))
                .collect(),
        ))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The far ends.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().map(|(network, _)| *network)
    }

    /// The time of one of them.
    pub fn of(&self, network: &IpNet) -> Option<Duration> {
        let place = self
            .0
            .binary_search_by_key(network, |(network, _)| *network);
        Some(self.0[place.ok()?].1)
    }

    /// All times, sorted, each once.
    pub fn different(&self) -> Vec<Duration> {
        let mut times: Vec<_> = self.0.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();
        times.dedup();
        times
    }

    /// What is asked for, in short; `None` where nothing is.
    pub fn asked(&self) -> Option<String> {
        let times = || self.0.iter().map(|(_, time)| *time);
        let (least, most) = (times().min()?, times().max()?);
        Some(format!(
            "{least:?} to {most:?} by far end, {} of them",
            self.0.len()
        ))
    }
}

fn parse_line(text: &str) -> Result<(IpNet, Duration), ValueError> {
    let mut words = text.split_whitespace();
    let (Some(network), Some(time), None) = (words.next(), words.next(), words.next()) else {
        return Err(ValueError::NotAFarEndAndATime);
    };
    Ok((parse_network(network)?, parse_delay(time)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Waits, Error> {
        let path =
            std::env::temp_dir().join(format!("faultctl-waits-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let waits = Waits::read(&path);
        std::fs::remove_file(&path).unwrap();
        waits
    }

    #[test]
    fn each_far_end_has_its_time() {
        let text = "# far\n10.0.0.7 100ms\n\n fd00::/64\t1s # near\n10.0.0.0/8 5\n10.0.0.7 0.1s\n";
        let waits = read("good", text).unwrap();
        assert_eq!(waits.networks().count(), 3);
        for (network, millis) in [("10.0.0.7/32", 100), ("10.0.0.0/8", 5), ("fd00::/64", 1000)] {
            let time = Duration::from_millis(millis);
            assert_eq!(waits.of(&network.parse().unwrap()), Some(time), "{network}");
        }
        assert_eq!(waits.of(&"10.0.0.8/32".parse().unwrap()), None);
        let times = [5, 100, 1000].map(Duration::from_millis);
        assert_eq!(waits.different(), times);
        let asked = "5ms to 1s by far end, 3 of them";
        assert_eq!(waits.asked().as_deref(), Some(asked));
        assert_eq!(Waits::default().asked(), None);
    }

    #[test]
    fn refused_lines_are_named() {
        for (name, text, line, source) in [
            ("none", "10.0.0.7\n", 1, ValueError::NotAFarEndAndATime),
            (
                "more",
                "\n10.0.0.7 1s 2s",
                2,
                ValueError::NotAFarEndAndATime,
            ),
            ("name", "db.example.org 1s", 1, ValueError::NotAnAddress),
            ("zero", "10.0.0.7 0", 1, ValueError::ZeroDelay),
            ("long", "10.0.0.7 1h", 1, ValueError::DelayTooLong),
            (
                "twice",
                "::1 1s\n::2 1s\n::1 2s",
                3,
                ValueError::AnotherTime { line: 1 },
            ),
        ] {
            let Err(Error::FileLine {
                line: at,
                source: why,
                ..
            }) = read(name, text)
            else {
                panic!("{name}");
            };
            assert_eq!((at, why), (line, source), "{name}");
        }
        assert!(matches!(
            read("empty", "# nothing\n"),
            Err(Error::EmptyFile { .. })
        ));
    }
}
