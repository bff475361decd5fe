//! A network card with several queues, as guests have it.

use std::{
    env,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use fault_tests::{
    Faultctl, Namespace,
    kernel::ways,
    udp,
    wait::{SOON, until},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::doctor::{about, assert_found};

const PORT: u16 = 50_000;
/// From each CPU.
const COUNT: u64 = 2_048;
/// On each CPU. The kernel chooses a queue by CPU, or draws one for each socket.
const SOCKETS: u64 = 16;

/// Both cards are on networks of their own, with a router in between: its addresses end
/// in 1, those of the cards in 2.
pub struct Card {
    pub namespace: Namespace,
    pub dev: String,
    pub addresses: [IpAddr; 2],
}

/// Both, for one test at a time.
pub struct Cards {
    pub near: Card,
    pub far: Card,
    _turn: MutexGuard<'static, ()>,
}

impl Cards {
    pub fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let names = env::var("FAULTCTL_TEST_NICS")
            .expect("two cards in FAULTCTL_TEST_NICS, as `cargo xtask vm` gives them to guests");
        let (near, far) = names.split_once(' ').expect("two cards");
        Self {
            near: Card::new(near, 1),
            far: Card::new(far, 2),
            _turn: turn,
        }
    }
}

impl Card {
    fn new(dev: &str, network: u16) -> Self {
        let namespace = Namespace::new();
        // The card comes back to where it was when its namespace ends, under this name.
        let own = Namespace::of_the_caller();
        until("the card is back from an earlier test", SOON, || {
            own.proc("dev").contains(&format!("{dev}:")).then_some(())
        });
        own.ip(&format!(
            "link set {dev} netns {}",
            namespace.path().display()
        ));
        namespace.ip(&format!(
            "addr add 10.78.{network}.2/24 dev {dev}\n\
             addr add fd78:{network}::2/64 dev {dev} nodad\n\
             link set {dev} up\n\
             route add default via 10.78.{network}.1\n\
             route add default via fd78:{network}::1"
        ));
        Self {
            namespace,
            dev: dev.to_owned(),
            addresses: [
                format!("10.78.{network}.2").parse().expect("an address"),
                format!("fd78:{network}::2").parse().expect("an address"),
            ],
        }
    }

    /// Packets that each queue has sent: each has a qdisc of its own below `mq`.
    fn sent_by_queue(&self) -> Vec<u64> {
        let text = self
            .namespace
            .tc(&format!("-json -statistics qdisc show dev {}", self.dev));
        let qdiscs: Value = serde_json::from_str(&text).expect("JSON");
        qdiscs
            .as_array()
            .expect("a list")
            .iter()
            .filter(|qdisc| qdisc["kind"] != "mq" && qdisc["kind"] != "clsact")
            .map(|qdisc| qdisc["packets"].as_u64().expect("a number"))
            .collect()
    }
}

#[test]
fn counters_are_exact_on_a_card_with_several_queues() {
    let Cards { near, far, _turn } = Cards::take();
    let queues = "driver `virtio_net`, 2 receive and 2 transmit queues";
    assert_found(&about(&near.namespace, &near.dev), "ok", &[queues]);
    for way in ways() {
        for family in [0, 1] {
            for (direction, from, to) in [("egress", &near, &far), ("ingress", &far, &near)] {
                if direction == "egress" && way == "--hook xdp" {
                    continue;
                }
                let faultctl = Faultctl::start(
                    &near.namespace,
                    &format!(
                        "loss 30 --iface {} --direction {direction} --proto udp --port {PORT} \
                         --local-port {PORT} {way}",
                        near.dev
                    ),
                );
                let arrived = flow(from, to, family);
                let ended = faultctl.end();

                let cpus = thread::available_parallelism().expect("CPUs").get() as u64;
                let sent = COUNT * cpus;
                assert_eq!(ended.count(direction, "matched"), sent, "{way} {direction}");
                assert_eq!(ended.count(direction, "dropped"), sent - arrived);
            }
        }
    }
    for card in [near, far] {
        let sent = card.sent_by_queue();
        let busy = sent.iter().filter(|sent| **sent >= COUNT / SOCKETS);
        assert!(busy.count() >= 2, "one queue did it all: {sent:?}");
    }
}

/// Sends from every CPU at once and returns how many datagrams arrived.
fn flow(from: &Card, to: &Card, family: usize) -> u64 {
    let address = |card: &Card| SocketAddr::new(card.addresses[family], PORT);
    let receiver = udp::socket(&to.namespace, address(to));
    receiver.set_nonblocking(false).expect("blocking");
    receiver
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout");
    let received = AtomicU64::new(0);
    let cpus = thread::available_parallelism().expect("CPUs").get();
    let senders: Vec<Vec<_>> = (0..cpus)
        .map(|_| {
            (0..SOCKETS)
                .map(|_| sender(from, address(from), address(to)))
                .collect()
        })
        .collect();
    let is_done = AtomicU64::new(0);
    thread::scope(|scope| {
        for (cpu, senders) in senders.iter().enumerate() {
            let is_done = &is_done;
            scope.spawn(move || {
                let mut set = CpuSet::new();
                set.set(cpu).expect("a CPU");
                sched_setaffinity(Pid::from_raw(0), &set).expect("to stay on a CPU");
                for (number, sender) in (0..COUNT).zip(senders.iter().cycle()) {
                    sender.send(&[0]).expect("to send");
                    // No faster than the emulated card, whose router drops what is too much.
                    if number % 16 == 15 {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
                is_done.fetch_add(1, Ordering::Relaxed);
            });
        }
        // Until a while after the last was sent nothing more has come.
        let mut silent = 0;
        while silent < 25 {
            match receiver.recv(&mut [0; 16]) {
                Ok(_) => {
                    received.fetch_add(1, Ordering::Relaxed);
                    silent = 0;
                }
                Err(_) if is_done.load(Ordering::Relaxed) == cpus as u64 => silent += 1,
                Err(_) => {}
            }
        }
    });
    received.into_inner()
}

/// One of several sockets with the same addresses.
fn sender(card: &Card, from: SocketAddr, to: SocketAddr) -> UdpSocket {
    card.namespace.run(|| {
        let socket = Socket::new(Domain::for_address(from), Type::DGRAM, None).expect("a socket");
        socket.set_reuse_port(true).expect("a shared port");
        socket.bind(&from.into()).expect("an address");
        socket.connect(&to.into()).expect("a route");
        socket.into()
    })
}
