//! `cargo fuzz run access_token`; built any other way it is empty.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rollcall_fuzz::access_token::check(data));

#[cfg(not(fuzzing))]
fn main() {}
