//! Host names, looked up again and again while a fault lives.

use std::{collections::BTreeMap, fmt, thread, time::Duration};

use ipnet::IpNet;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::{
    error::{self, Error, KernelError},
    spec::endpoint,
};

/// How long after one look the next comes.
const PAUSE: Duration = Duration::from_secs(5);

/// Host names and the addresses that they have.
pub type Names = BTreeMap<String, Vec<IpNet>>;

/// What has become of a name.
#[derive(Debug)]
pub struct News {
    /// The name.
    pub name: String,
    /// What it had before.
    pub before: Vec<IpNet>,
    /// What it has now, or why it has none any more.
    pub now: Result<Vec<IpNet>, Error>,
}

/// Looks the names up until nobody wants to hear of it. A name that has no address any
/// more is told once, until it has one again.
///
/// On a thread of its own, in the network namespace of this process: the system's resolver
/// blocks, for long where the fault takes its packets. The process does not wait for it.
pub fn follow(mut names: Names) -> Result<UnboundedReceiver<News>, KernelError> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("names".into())
        .spawn(move || {
            let mut lost = Vec::new();
            while !sender.is_closed() {
                thread::sleep(PAUSE);
                for (name, addresses) in &mut names {
                    let now = endpoint::look_up(name);
                    let is_news = match &now {
                        Ok(now) => {
                            lost.retain(|other| other != name);
                            now != addresses
                        }
                        Err(_) => !lost.contains(name),
                    };
                    if !is_news {
                        continue;
                    }
                    let before = addresses.clone();
                    match &now {
                        Ok(now) => addresses.clone_from(now),
                        Err(_) => lost.push(name.clone()),
                    }
                    let news = News {
                        name: name.clone(),
                        before,
                        now,
                    };
                    if sender.send(news).is_err() {
                        return;
                    }
                }
            }
        })
        .map_err(KernelError::system("start a thread"))?;
    Ok(receiver)
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |networks: &[IpNet]| {
            let addresses = networks.iter().map(|network| network.addr().to_string());
            addresses.collect::<Vec<_>>().join(", ")
        };
        match &self.now {
            Ok(now) => write!(
                f,
                "`{}` is now {}, was {}",
                self.name,
                list(now),
                list(&self.before)
            ),
            Err(error) => write!(f, "{}; its last addresses stay", error::chain(error)),
        }
    }
}
