//! What the kernel's verifier has to walk to accept the programs.

use fault_common::packet::LinkLayer;
use fault_tests::verdict::Programs;
use fault_user::{attach::Program, maps::Room, object::Object};

/// Half of what a kernel accepts (`BPF_COMPLEXITY_LIMIT_INSNS`, a million since Linux
/// 5.2), because each kernel prunes in its own way. `cargo xtask verifier` compares with
/// the exact counts.
const LIMIT: u32 = 500_000;

#[test]
fn programs_stay_far_from_the_limit_of_the_verifier() {
    for (link, object) in [
        (LinkLayer::Ethernet, Object::embedded()),
        (LinkLayer::None, Object::embedded()),
        (LinkLayer::Ethernet, Object::verbose()),
    ] {
        let object = object.expect("it is built in");
        let programs = Programs::of(object, link, Room::default()).expect("the programs load");
        for program in Program::ALL {
            let loaded = programs.loaded.ebpf.program(program.name());
            let info = loaded.expect("the program").info().expect("its info");
            // The field is there since Linux 5.16.
            let walked = info.verified_instruction_count().expect("a count");
            assert!(
                walked < LIMIT,
                "{walked} instructions for {link:?}, {}",
                program.name()
            );
        }
    }
}
