//! `cargo fuzz run query`; built any other way it is empty.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rollcall_fuzz::query::check(data));

#[cfg(not(fuzzing))]
fn main() {}
