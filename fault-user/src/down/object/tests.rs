use super::*;

fn v6_address(flags: u32, valid: u32, preferred: u32) -> Message {
    let mut message = Message::new(libc::RTM_NEWADDR);
    message.header[..2].copy_from_slice(&[V6, 64]);
    message.set(libc::IFA_ADDRESS, vec![0xfd; 16]);
    message.set(libc::IFA_FLAGS, flags.to_ne_bytes().to_vec());
    let mut lifetimes = preferred.to_ne_bytes().to_vec();
    lifetimes.extend(valid.to_ne_bytes());
    lifetimes.extend([7; 8]);
    message.set(libc::IFA_CACHEINFO, lifetimes);
    message
}

fn lifetimes(message: &Message) -> [Option<u32>; 2] {
    let info = message.attribute(libc::IFA_CACHEINFO).expect("lifetimes");
    [&info[..4], &info[4..8]].map(message::number)
}

fn route(protocol: u8, kind: u8) -> Message {
    let mut message = Message::new(libc::RTM_NEWROUTE);
    message.header[FAMILY] = V6;
    message.header[ROUTE_PROTOCOL] = protocol;
    message.header[ROUTE_TYPE] = kind;
    message.set(libc::RTA_OIF, 3_u32.to_ne_bytes().to_vec());
    message
}

#[test]
fn lifetimes_lose_the_time_gone_and_end() {
    let gone = Duration::from_millis(100_900);
    let left = |valid, preferred| again(&v6_address(0, valid, preferred), gone);
    let lifetimes_left = |valid, preferred| lifetimes(&left(valid, preferred).expect("left"));
    assert_eq!(lifetimes_left(600, 300), [Some(199), Some(499)]);
    assert_eq!(lifetimes_left(600, 50), [Some(0), Some(499)]);
    assert_eq!(lifetimes_left(u32::MAX, 0), [Some(0), Some(u32::MAX)]);
    assert_eq!(left(100, 50), None);
}

#[test]
fn flags_that_are_states_are_left_to_the_kernel() {
    let set = libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE | libc::IFA_F_MANAGETEMPADDR;
    let states = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED;
    let address = v6_address(set | states, u32::MAX, u32::MAX);
    let again = again(&address, Duration::ZERO).expect("it lasts");
    assert_eq!(address_flags(&again), set);
    assert_eq!(identity(&again), identity(&address));
}

#[test]
fn route_that_runs_out_gets_what_is_left() {
    let mut dying = route(libc::RTPROT_STATIC, libc::RTN_UNICAST);
    let mut info = vec![0; 32];
    info[8..12].copy_from_slice(&50_000_u32.to_ne_bytes());
    dying.set(libc::RTA_CACHEINFO, info);
    let left = |gone| again(&dying, Duration::from_secs(gone))?.number(RTA_EXPIRES);
    assert_eq!(left(100), Some(400));
    assert_eq!(left(500), None);
    let lasting = route(libc::RTPROT_STATIC, libc::RTN_UNICAST);
    let again = again(&lasting, Duration::from_secs(500)).expect("it lasts");
    assert_eq!(again.number(RTA_EXPIRES), None);
    assert_eq!(identity(&lasting), identity(&again));
}

#[test]
fn dead_legs_of_a_multipath_route_are_the_same_legs() {
    let with_flags = |flags: u8| {
        let mut message = route(libc::RTPROT_STATIC, libc::RTN_UNICAST);
        message.remove(&[libc::RTA_OIF]);
        let mut legs = Vec::new();
        for index in [3_u32, 4] {
            legs.extend(12_u16.to_ne_bytes());
            legs.extend([flags, 1]);
            legs.extend(index.to_ne_bytes());
            legs.extend([4, 0, 99, 0]);
        }
        message.set(libc::RTA_MULTIPATH, legs);
        message
    };
    // Dead, and without a carrier.
    assert_eq!(identity(&with_flags(1 | 16)), identity(&with_flags(0)));
    assert_ne!(identity(&with_flags(4)), identity(&with_flags(0)));
    assert_eq!(interfaces(&with_flags(0)), [3, 4]);
}

#[test]
fn makers_are_told_apart() {
    let (all, none) = (BTreeSet::from([3]), BTreeSet::new());
    let of = |message: &Message| maker(message, &all);
    let unicast = libc::RTN_UNICAST;
    assert_eq!(of(&route(libc::RTPROT_STATIC, unicast)), Maker::User);
    assert_eq!(
        of(&route(libc::RTPROT_KERNEL, unicast)),
        Maker::KernelOrUser
    );
    assert_eq!(
        of(&route(libc::RTPROT_KERNEL, libc::RTN_LOCAL)),
        Maker::Implied
    );
    assert_eq!(
        of(&route(libc::RTPROT_STATIC, libc::RTN_LOCAL)),
        Maker::User
    );
    assert_eq!(of(&route(RTPROT_RA, unicast)), Maker::Kernel);
    assert_eq!(maker(&route(RTPROT_RA, unicast), &none), Maker::User);

    let mut address = v6_address(0, 1, 1);
    assert_eq!(of(&address), Maker::User);
    address.set(IFA_PROTO, vec![2]);
    assert_eq!(of(&address), Maker::Kernel);
    address.set(IFA_PROTO, vec![99]);
    assert_eq!(of(&address), Maker::User);
    assert_eq!(of(&v6_address(libc::IFA_F_TEMPORARY, 1, 1)), Maker::Random);
}

#[test]
fn neighbours_that_somebody_set_are_told_from_those_that_were_found() {
    let neighbour = |state: u16, flags: u8| {
        let mut message = Message::new(libc::RTM_NEWNEIGH);
        message.header[NEIGH_STATE] = state.to_le_bytes()[0];
        message.header[NEIGH_FLAGS] = flags;
        message.set(libc::NDA_DST, vec![10, 0, 0, 7]);
        message
    };
    assert!(is_set(&neighbour(libc::NUD_PERMANENT, 0), false));
    assert!(is_set(&neighbour(0, libc::NTF_PROXY), false));
    assert!(is_set(&neighbour(libc::NUD_STALE, NTF_EXT_LEARNED), false));
    assert!(is_set(&neighbour(libc::NUD_NOARP, 0), false));
    assert!(!is_set(&neighbour(libc::NUD_NOARP, 0), true));
    assert!(!is_set(&neighbour(libc::NUD_REACHABLE, 0), false));
}
