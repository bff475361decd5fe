//! What the chains are. What comes of them in the long run is compared with theory in
//! the package `fault-tests`.

extern crate std;

use proptest::prelude::*;

use super::*;

const STATES_OF_MODEL: [u32; 4] = [GOOD, BAD, BURST_LOSS, ISOLATED_LOSS];

/// Two shares of one that leave a third.
fn two() -> impl Strategy<Value = (u64, u64)> {
    (0..=ONE).prop_flat_map(|one| (Just(one), 0..=ONE - one))
}

fn any_chain() -> impl Strategy<Value = Chain> {
    let share = || 0..=ONE;
    prop_oneof![
        (two(), two(), share()).prop_map(|((p13, p14), (p31, p32), p23)| {
            Chain::four_states(p13, p31, p32, p23, p14)
        }),
        [share(), share(), share(), share()]
            .prop_map(|[p, r, bad, good]| Chain::gilbert_elliott(p, r, bad, good)),
        [share(), share(), share()].prop_map(|[rate, p, r]| Chain::gilbert(rate, p, r)),
    ]
}

#[test]
fn four_states_begin_as_after_good_reception() {
    let chain = Chain::four_states(5, 10, 20, 40, 1);
    for from in [START, GOOD] {
        let next = STATES_OF_MODEL.map(|to| chain.transition(from, to));
        assert_eq!(next, [ONE - 6, 0, 5, 1]);
    }
    let rows = [BAD, BURST_LOSS, ISOLATED_LOSS]
        .map(|from| STATES_OF_MODEL.map(|to| chain.transition(from, to)));
    assert_eq!(
        rows,
        [[0, ONE - 40, 40, 0], [10, 20, ONE - 30, 0], [ONE, 0, 0, 0]]
    );
    assert_eq!(
        STATES_OF_MODEL.map(|state| chain.loss(state)),
        [0, 0, ONE, ONE]
    );
}

#[test]
fn gilbert_elliott_finds_the_good_state_first() {
    let chain = Chain::gilbert_elliott(5, 10, 700, 1);
    let rows = [START, GOOD, BAD].map(|from| STATES_OF_MODEL.map(|to| chain.transition(from, to)));
    assert_eq!(
        rows,
        [[ONE, 0, 0, 0], [ONE - 5, 5, 0, 0], [10, ONE - 10, 0, 0]]
    );
    assert_eq!([GOOD, BAD].map(|state| chain.loss(state)), [1, 700]);
}

#[test]
fn gilbert_loses_the_first_packet_as_often_as_asked() {
    let chain = Chain::gilbert(7, 5, 10);
    assert_eq!(chain.transition(START, BURST_LOSS), 7);
    assert_eq!(chain.transition(GOOD, BURST_LOSS), 5);
    assert_eq!(chain.transition(BURST_LOSS, GOOD), 10);
    assert_eq!(chain.transition(START, GOOD), ONE - 7);
}

proptest! {
    #[test]
    fn each_state_has_its_share_of_the_draws(
        chain in any_chain(),
        from in START..=ISOLATED_LOSS,
        other: u32,
    ) {
        // The first draw of each state and its last.
        let mut first = 0;
        for to in STATES_OF_MODEL {
            let share = chain.transition(from, to);
            if share > 0 {
                for bits in [first, first + share - 1] {
                    let draw = u64::from(other) << 32 | bits;
                    prop_assert_eq!(chain.next(from, draw), to);
                }
            }
            first += share;
        }
        prop_assert_eq!(first, ONE);
    }

    #[test]
    fn loss_is_the_share_of_the_state(chain in any_chain(), to in GOOD..=ISOLATED_LOSS, other: u32) {
        let lost = |bits: u64| chain.loses(to, bits << 32 | u64::from(other));
        let share = chain.loss(to);
        prop_assert!(share == 0 || lost(share - 1));
        prop_assert!(share == ONE || !lost(share));
    }

    #[test]
    fn whatever_is_in_the_word_leads_to_a_state(chain in any_chain(), from: u32, draw: u64) {
        prop_assert!((GOOD..=ISOLATED_LOSS).contains(&chain.next(from, draw)));
    }
}
