//! From arguments to requests.

mod held;

use std::{
    ffi::OsString,
    path::{self, PathBuf},
    time::Duration,
};

use clap::Parser as _;

use super::{
    Attach, ClearArgs, Cli, Direction, DoctorArgs, DownArgs, DownMode, Engine, Hold, Hook, Life,
    LossArgs, MarkArgs, PartitionArgs, Selectors, SelftestArgs, StatusArgs, TcArgs, Verb,
    WatchdogArgs, refusal,
};
use crate::{
    Error, clear,
    container::ContainerId,
    detach, doctor,
    down::{self, LinkMode},
    inject::{self, AttachMode, FarEnds},
    line::{self, Limits},
    namespace::Place,
    selftest,
    spec::{self, Burst, Directions, FaultKind, FaultSpec, Loss, Mark},
    status, tc,
};

/// What the arguments ask for.
#[derive(Debug)]
pub enum Parsed {
    /// Work.
    Command(Command),
    /// A text for stdout: help or version.
    Text(String),
}

/// A verb with all it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A verb that puts programs on interfaces
    Inject(Box<inject::Request>),
    /// `down` of the link itself
    Down(down::Request),
    /// `watchdog`
    Watchdog(down::watchdog::Request),
    /// `tc`
    Tc(Box<tc::Request>),
    /// `status`
    Status(status::Request),
    /// `clear`
    Clear(clear::Request),
    /// `selftest`
    Selftest(selftest::Request),
    /// `doctor`
    Doctor(doctor::Request),
}

/// Reads arguments, the program's name first. Reads the files that they name,
/// resolves host names, and refuses what can match no packet.
pub fn parse(args: &[OsString]) -> Result<Parsed, Error> {
    match Cli::try_parse_from(args) {
        Ok(cli) => cli.verb.command().map(Parsed::Command),
        Err(error) if error.use_stderr() => Err(refusal::explain(&error, args)),
        Err(help) => Ok(Parsed::Text(help.render().to_string())),
    }
}

/// Whether errors are to be told in JSON too, also where the arguments cannot be
/// read.
pub fn wants_json(args: &[OsString]) -> bool {
    args.iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json")
}

impl Verb {
    fn command(self) -> Result<Command, Error> {
        Ok(match self {
            Self::Loss(LossArgs {
                percent,
                correlation,
                burst,
                gemodel,
                state,
                every,
                selectors,
                life,
            }) => {
                // Without one of the others, clap has asked for it.
                let percent = percent.unwrap_or_default();
                let loss = if let Some(every) = every {
                    Loss::Every(every)
                } else if let Some(gemodel) = gemodel {
                    Loss::Gemodel(gemodel)
                } else if let Some(state) = state {
                    Loss::State(state)
                } else if let Some(length) = burst {
                    Loss::Burst(Burst::new(percent, length)?)
                } else {
                    Loss::Random {
                        percent,
                        correlation: correlation.unwrap_or_default(),
                    }
                };
                inject(FaultKind::Loss(loss), selectors, life)?
            }
            Self::Partition(PartitionArgs { selectors, life }) => {
                inject(FaultKind::Partition, selectors, life)?
            }
            Self::Down(DownArgs {
                mode,
                selectors,
                life,
            }) => match mode {
                DownMode::Blackhole => inject(FaultKind::Down, selectors, life)?,
                DownMode::Admin => down(LinkMode::Admin, selectors, life)?,
                DownMode::Carrier => down(LinkMode::Carrier, selectors, life)?,
            },
            Self::Mark(MarkArgs {
                mark: skb,
                dscp,
                selectors,
                life,
            }) => inject(FaultKind::Mark(Mark { skb, dscp }), selectors, life)?,
            Self::Latency(args) => args.command()?,
            Self::Reorder(args) => args.command()?,
            Self::Duplicate(args) => args.command()?,
            Self::Rate(args) => args.command()?,
            Self::Netem(args) => args.command()?,
            Self::Watchdog(WatchdogArgs { files }) => {
                Command::Watchdog(down::watchdog::Request { files })
            }
            Self::Tc(TcArgs { words }) => {
                let words = words.iter().map(|word| word.to_string_lossy().into_owned());
                Command::Tc(Box::new(tc::Request::parse(words.collect())?))
            }
            Self::Status(StatusArgs { json }) => Command::Status(status::Request { json }),
            Self::Clear(ClearArgs { iface, json }) => Command::Clear(clear::Request {
                interfaces: unique(iface),
                json,
            }),
            Self::Selftest(SelftestArgs { json }) => Command::Selftest(selftest::Request { json }),
            Self::Doctor(DoctorArgs { iface, netns, json }) => Command::Doctor(doctor::Request {
                interfaces: unique(iface),
                netns: netns.map(netns_path),
                json,
            }),
        })
    }
}

fn inject(kind: FaultKind, selectors: Selectors, life: Life) -> Result<Command, Error> {
    inject_held(kind, selectors, life, Hold::default())
}

fn inject_held(
    kind: FaultKind,
    selectors: Selectors,
    life: Life,
    hold: Hold,
) -> Result<Command, Error> {
    if let Some(delay) = kind.delay()
        && !delay.jitter.is_zero()
    {
        // Whether there is such a table.
        delay.distribution.table()?;
    }
    let limits = hold.limit.map_or_else(Limits::default, Limits::of);
    let directions = match selectors.direction {
        Some(Direction::Egress) => Directions::Egress,
        Some(Direction::Ingress) => Directions::Ingress,
        Some(Direction::Both) => Directions::Both,
        None => kind.default_directions(),
    };
    let [mut to, mut except] = [
        spec::endpoint::resolve(&selectors.to)?,
        spec::endpoint::resolve(&selectors.except)?,
    ];
    let spec = FaultSpec {
        kind,
        selectors: spec::Selectors {
            to: to.take_all(),
            from: selectors.from,
            except: except.take_all(),
            protocols: selectors.proto,
            far_ports: selectors.port,
            near_ports: selectors.local_port,
            flows: selectors.flows,
            directions,
        },
        seed: selectors.seed,
    };
    spec.check()?;
    let hook = match selectors.hook {
        Hook::Auto | Hook::Tc => inject::Hook::Tc,
        Hook::Xdp => inject::Hook::Xdp,
    };
    hook.check(&spec)?;
    Ok(Command::Inject(Box::new(inject::Request {
        spec,
        far_ends: FarEnds { to, except },
        interfaces: unique(selectors.iface),
        place: place(selectors.netns, selectors.pid, selectors.container),
        include_ssh: selectors.include_ssh,
        hook,
        duration: life.ends_after(),
        detached: life.detach,
        confirm: life.confirm,
        metrics: life.metrics,
        json: life.json,
        attach: match life.attach {
            Attach::Auto => AttachMode::Auto,
            Attach::Tcx => AttachMode::Tcx,
            Attach::Clsact => AttachMode::Clsact,
        },
        engine: match hold.engine {
            Engine::Auto => line::Engine::Auto,
            Engine::Fq => line::Engine::Fq,
            Engine::Tap => line::Engine::Tap,
        },
        limits,
        verbose: life.verbose,
        record: None,
        command: life.command,
    })))
}

fn down(mode: LinkMode, selectors: Selectors, life: Life) -> Result<Command, Error> {
    let Selectors {
        iface,
        to,
        from,
        except,
        proto,
        port,
        local_port,
        flows,
        direction,
        hook,
        netns,
        pid,
        container,
        include_ssh,
        seed,
    } = selectors;
    let mode_name = mode.name();
    for (option, given) in [
        ("--to", !to.is_empty()),
        ("--from", !from.is_empty()),
        ("--except", !except.is_empty()),
        ("--proto", !proto.is_empty()),
        ("--port", !port.is_empty()),
        ("--local-port", !local_port.is_empty()),
        ("--flows", flows.is_some()),
        ("--direction", direction.is_some()),
        ("--hook", hook != Hook::Auto),
        ("--seed", seed.is_some()),
        ("--verbose", life.verbose),
    ] {
        if given {
            return Err(Error::Usage {
                message: format!("`{option}` is about packets, and `--mode {mode_name}` is not"),
                hint: Some(format!(
                    "leave `{option}` out, or use `--mode blackhole`, which loses packets"
                )),
                source: None,
            });
        }
    }
    let duration = life.duration.ok_or_else(|| Error::Usage {
        message: format!("`--for` is missing, which `--mode {mode_name}` needs"),
        hint: Some("say when the link is to come back, as in `--for 20s`".into()),
        source: None,
    })?;
    Ok(Command::Down(down::Request {
        mode,
        interfaces: unique(iface),
        place: place(netns, pid, container),
        include_ssh,
        duration,
        detached: life.detach,
        confirm: life.confirm,
        metrics: life.metrics,
        json: life.json,
        command: life.command,
    }))
}

impl Life {
    /// When the fault ends by itself.
    fn ends_after(&self) -> Option<Duration> {
        let forgotten = self.detach && !self.until_cleared;
        self.duration
            .or_else(|| forgotten.then_some(detach::UNLESS_SAID))
    }
}

fn place(netns: Option<String>, pid: Option<u32>, container: Option<ContainerId>) -> Place {
    match (netns, pid, container) {
        (Some(name), ..) => Place::Path(netns_path(name)),
        (_, Some(pid), _) => Place::Process(pid),
        (.., Some(id)) => Place::Container(id),
        (None, None, None) => Place::Own,
    }
}

fn unique(names: Vec<String>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// ip-netns(8) keeps its names in /run/netns; what has a slash is a path, here and from any
/// working directory.
fn netns_path(name: String) -> PathBuf {
    if name.contains('/') {
        path::absolute(&name).unwrap_or_else(|_| name.into())
    } else {
        PathBuf::from("/run/netns").join(name)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    fn request(line: &str) -> inject::Request {
        match parse(&args(line)) {
            Ok(Parsed::Command(Command::Inject(request))) => *request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn loss_defaults_to_egress_until_ctrl_c() {
        let request = request("faultctl loss 50 --iface eth0");
        let Ok(percent) = "50".parse() else {
            panic!("a percentage")
        };
        assert_eq!(
            request,
            inject::Request {
                spec: FaultSpec {
                    kind: FaultKind::Loss(Loss::Random {
                        percent,
                        correlation: spec::Percent::default(),
                    }),
                    selectors: spec::Selectors::default(),
                    seed: None,
                },
                far_ends: FarEnds::default(),
                interfaces: vec!["eth0".into()],
                place: Place::Own,
                include_ssh: false,
                duration: None,
                detached: false,
                confirm: None,
                metrics: None,
                json: false,
                hook: inject::Hook::Tc,
                attach: AttachMode::Auto,
                engine: line::Engine::Auto,
                limits: Limits::default(),
                verbose: false,
                record: None,
                command: Vec::new(),
            }
        );
    }

    #[test]
    fn each_option_reaches_the_request() {
        let request = request(
            "faultctl loss --every 10 --iface b --iface a --iface b --to 10.0.0.0/8 \
             --from 10.1.0.0/16 --except 10.0.0.1 --proto tcp,udp --proto sctp --port 80,443 \
             --local-port 1-9 --direction both --netns blue --include-ssh --flows 10% --seed 0x10 --for 1m30s \
             --metrics [::1]:9909 --json --attach clsact -- ping -c 1 --json",
        );
        let selectors = &request.spec.selectors;
        assert_eq!(
            request.spec.kind,
            FaultKind::Loss(Loss::Every(10.try_into().unwrap()))
        );
        assert_eq!(request.spec.seed, Some(16));
        assert_eq!(selectors.to, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(selectors.from, ["10.1.0.0/16".parse().unwrap()]);
        assert_eq!(selectors.except, ["10.0.0.1/32".parse().unwrap()]);
        assert_eq!(selectors.protocols.len(), 3);
        assert_eq!(selectors.far_ports.len(), 2);
        assert_eq!(selectors.near_ports.len(), 1);
        assert_eq!(selectors.flows, spec::Percent::new(10.0));
        assert_eq!(selectors.directions, Directions::Both);
        assert_eq!(request.interfaces, ["b", "a"]);
        assert_eq!(request.place, Place::Path("/run/netns/blue".into()));
        assert_eq!(request.duration, Some(Duration::from_secs(90)));
        assert_eq!(request.metrics, "[::1]:9909".parse().ok());
        assert!(request.json && request.include_ssh);
        assert_eq!(request.attach, AttachMode::Clsact);
        assert_eq!(request.command, ["ping", "-c", "1", "--json"]);
    }

    #[test]
    fn cutting_off_takes_both_directions_unless_told() {
        for verb in ["partition", "down"] {
            let line = format!("faultctl {verb} --iface eth0");
            assert_eq!(request(&line).spec.selectors.directions, Directions::Both);
            let line = format!("{line} --direction ingress");
            assert_eq!(
                request(&line).spec.selectors.directions,
                Directions::Ingress
            );
        }
        let mark = request("faultctl mark --dscp ef --iface eth0");
        assert_eq!(mark.spec.selectors.directions, Directions::Egress);
    }

    #[test]
    fn detached_fault_lasts_an_hour_unless_something_else_is_said() {
        let of = |more: &str| request(&format!("faultctl down --iface eth0 {more}"));
        assert!(!of("--for 1s").detached);
        for (more, expected) in [
            ("--detach", Some(Duration::from_hours(1))),
            ("--detach --for 90s", Some(Duration::from_secs(90))),
            ("--detach --until-cleared", None),
        ] {
            let request = of(more);
            assert!(request.detached, "{more}");
            assert_eq!(request.duration, expected, "{more}");
        }
    }

    #[test]
    fn namespace_with_a_slash_is_a_path() {
        let request = request("faultctl down --iface eth0 --netns /proc/7/ns/net");
        assert_eq!(request.place, Place::Path("/proc/7/ns/net".into()));
    }

    #[test]
    fn process_and_container_need_no_interface() {
        let by_pid = request("faultctl down --pid 7");
        assert_eq!(
            (by_pid.place, by_pid.interfaces),
            (Place::Process(7), vec![])
        );
        let container = request("faultctl down --container 0123456789ab --iface eth0");
        let id = "0123456789ab".parse().unwrap();
        assert_eq!(container.place, Place::Container(id));
        assert_eq!(container.interfaces, ["eth0"]);
    }

    #[test]
    fn the_childs_json_is_not_ours() {
        assert!(wants_json(&args("faultctl loss x --json")));
        assert!(!wants_json(&args("faultctl loss 5 -- tool --json")));
    }
}
