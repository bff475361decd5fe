//! Level "verdict": the loaded programs, by `BPF_PROG_TEST_RUN`. Needs root.

mod bursts;
mod cases;
mod differential;
mod generate;
mod model;
mod random_frames;
mod replace;
mod verifier;
