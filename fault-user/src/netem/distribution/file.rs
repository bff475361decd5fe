//! Tables in iproute2's text format: whole numbers, comments after `#`.

use std::{
    env::{self, consts::ARCH},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::Table;
use crate::netem::number;

/// Enough for the longest table, with comments.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// No such table is installed.
    #[error("no distribution `{name}`")]
    Unknown {
        /// Its name.
        name: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// The file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line with something else than values.
    #[error("line {line} of `{}`: `{word}` is no value of a distribution", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        word: String,
    },
    /// No value at all.
    #[error("no value in `{}`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More values than netem has room for.
    #[error("line {line} of `{}`: more than {} values", path.display(), Table::MAX_LEN)]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The line with the first that is too many.
        line: usize,
    },
}

impl DistributionError {
    /// What to type instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { directories, .. } => {
                let directories: Vec<_> = directories
                    .iter()
                    .map(|directory| format!("`{}`", directory.display()))
                    .collect();
                format!(
                    "name `uniform`, `normal`, `pareto`, `paretonormal`, the path of a file, or \
                     a `.dist` file in {}",
                    directories.join(" or ")
                )
            }
            Self::Read { .. } | Self::Line { .. } | Self::Empty { .. } | Self::TooLong { .. } => {
                format!(
                    "a distribution is a text file with 1 to {} whole numbers from {} to {}, where {} \
                 stands for 1; `#` starts a comment",
                    Table::MAX_LEN,
                    i16::MIN,
                    i16::MAX,
                    Table::SCALE
                )
            }
        }
    }
}

/// The file that a name or a path means.
pub fn find(name: &str) -> Result<PathBuf, DistributionError> {
    let has_extension = Path::new(name).extension().is_some_and(|end| end == "dist");
    if name.contains('/') || has_extension {
        return Ok(name.into());
    }
    let directories = directories();
    directories
        .iter()
        .map(|directory| directory.join(format!("{name}.dist")))
        .find(|path| path.exists())
        .ok_or_else(|| DistributionError::Unknown {
            name: name.into(),
            directories,
        })
}

/// Reads a table.
pub fn read(path: &Path) -> Result<Table, DistributionError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|source| DistributionError::Read {
            path: path.into(),
            source,
        })?;
    parse(path, &String::from_utf8_lossy(&bytes))
}

fn parse(path: &Path, text: &str) -> Result<Table, DistributionError> {
    let mut values = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let (content, _) = content.split_once('#').unwrap_or((content, ""));
        for word in content.split_ascii_whitespace() {
            let value = number::integer(word)
                .and_then(|value| value.try_into().ok())
                .ok_or_else(|| DistributionError::Line {
                    path: path.into(),
                    line,
                    word: shortened(word),
                })?;
            if values.len() == Table::MAX_LEN {
                return Err(DistributionError::TooLong {
                    path: path.into(),
                    line,
                });
            }
            values.push(value);
        }
    }
    if values.is_empty() {
        return Err(DistributionError::Empty { path: path.into() });
    }
    Ok(Table(values))
}

/// As much as fits in a message.
fn shortened(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(20).collect()
}

/// Where tc looks, and where distributions of Linux have its tables.
fn directories() -> Vec<PathBuf> {
    match env::var_os("TC_LIB_DIR") {
        Some(directory) => vec![directory.into()],
        None => vec![
            "/usr/lib/tc".into(),
            "/usr/lib64/tc".into(),
            format!("/usr/lib/{ARCH}-linux-gnu/tc").into(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Result<Vec<i16>, String> {
        parse(Path::new("x.dist"), text)
            .map(|table| table.values().to_vec())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_is_whole_numbers_and_comments() {
        let text = "# a comment\n -32768 -1 0\n\n1 0x10 32767 # the end\n";
        assert_eq!(values(text), Ok(vec![-32768, -1, 0, 1, 16, 32767]));
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        for (text, message) in [
            ("", "no value in `x.dist`"),
            ("# 1 2 3\n", "no value in `x.dist`"),
            (
                "1 2\n3 four\n",
                "line 2 of `x.dist`: `four` is no value of a distribution",
            ),
            (
                "0.5",
                "line 1 of `x.dist`: `0.5` is no value of a distribution",
            ),
            (
                "#\n32768",
                "line 2 of `x.dist`: `32768` is no value of a distribution",
            ),
            (
                "\u{1b}[31mabcdefghijklmnopqrstuvwxyz",
                "line 1 of `x.dist`: `[31mabcdefghijklmnop` is no value of a distribution",
            ),
        ] {
            assert_eq!(values(text), Err(message.into()), "{text:?}");
        }
    }

    #[test]
    fn table_has_at_most_as_many_values_as_the_kernel_takes() {
        let most = "1 2 3 4 5 6 7 8\n".repeat(Table::MAX_LEN / 8);
        assert_eq!(values(&most).map(|values| values.len()), Ok(Table::MAX_LEN));
        assert_eq!(
            values(&format!("{most}9\n")),
            Err("line 2049 of `x.dist`: more than 16384 values".into())
        );
    }

    #[test]
    fn a_name_is_looked_up_and_a_path_is_not() {
        assert_eq!(find("./my table").ok(), Some("./my table".into()));
        assert_eq!(find("mine.dist").ok(), Some("mine.dist".into()));
        let error = find("nosuch").expect_err("not installed");
        assert_eq!(error.to_string(), "no distribution `nosuch`");
        assert!(error.hint().contains("/usr/lib/tc"), "{}", error.hint());
    }

    #[test]
    fn file_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = directory.path().join("none.dist");
        let error = read(&missing).expect_err("there is no file");
        assert_eq!(
            error.to_string(),
            format!("cannot read `{}`", missing.display())
        );
        assert!(matches!(
            read(directory.path()),
            Err(DistributionError::Read { .. })
        ));
        let zeros = directory.path().join("zeros.dist");
        std::fs::write(&zeros, [0; 100]).expect("a file");
        assert!(matches!(
            read(&zeros),
            Err(DistributionError::Line { line: 1, .. })
        ));
    }
}
