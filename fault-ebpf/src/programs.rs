//! The programs of an object, and what user space writes into it and reads from it.

/// Everything in an object. `$teller` hears of packets: programs that somebody hears are in
/// an object of their own, so that the others pay nothing for it.
#[macro_export]
macro_rules! programs {
    ($teller:ty) => {
        /// Layouts of this object, read by user space before it loads anything.
        #[unsafe(link_section = "faultctl_abi")]
        #[unsafe(no_mangle)]
        #[used]
        static FAULTCTL_ABI: u64 = fault_common::layout::ABI;

        /// 1 where frames have no link-layer header. Written by user space before the load.
        #[unsafe(no_mangle)]
        static NO_LINK_LAYER: u8 = 0;

        /// Frames that leave the interface.
        #[aya_ebpf::macros::classifier]
        pub fn faultctl_egress(ctx: aya_ebpf::programs::TcContext) -> i32 {
            let direction = fault_common::layout::Direction::Egress;
            $crate::classify::<$teller>(&ctx, link(), direction)
        }

        /// Frames that arrive at the interface.
        #[aya_ebpf::macros::classifier]
        pub fn faultctl_ingress(ctx: aya_ebpf::programs::TcContext) -> i32 {
            let direction = fault_common::layout::Direction::Ingress;
            $crate::classify::<$teller>(&ctx, link(), direction)
        }

        /// Frames that left, and waited in a helper device.
        #[aya_ebpf::macros::classifier]
        pub fn faultctl_back_out(ctx: aya_ebpf::programs::TcContext) -> i32 {
            $crate::back(&ctx, fault_common::layout::Direction::Egress)
        }

        /// Frames that arrived, and waited in a helper device.
        #[aya_ebpf::macros::classifier]
        pub fn faultctl_back_in(ctx: aya_ebpf::programs::TcContext) -> i32 {
            $crate::back(&ctx, fault_common::layout::Direction::Ingress)
        }

        /// Frames that the interface's driver has received, of one buffer or several.
        #[aya_ebpf::macros::xdp(frags)]
        pub fn faultctl_xdp(ctx: aya_ebpf::programs::XdpContext) -> u32 {
            $crate::receive::<$teller>(&ctx, link())
        }

        #[inline(always)]
        fn link() -> fault_common::packet::LinkLayer {
            use fault_common::packet::LinkLayer;
            // SAFETY: a constant for the kernel; volatile, because the compiler must not
            // take the value that it sees here for the last word.
            if unsafe { (&raw const NO_LINK_LAYER).read_volatile() } == 0 {
                LinkLayer::Ethernet
            } else {
                LinkLayer::None
            }
        }

        #[panic_handler]
        fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }

        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}
