//! The beginning of a file of the cache: what can be read is the same when it was written and read again, and
//! nothing is read without its checksum.
#![no_main]

use headgate::cache::fuzzing::{reread, torn};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    assert!(!torn(data));
    let Some([first, second]) = reread(data) else {
        return;
    };
    assert_eq!(first, second);
    let last = first.len() - 1;
    for cut in [last, last / 2, 0] {
        assert!(!torn(&first[..cut]));
        let mut changed = first.clone();
        changed[cut] ^= 1;
        assert!(!torn(&changed));
    }
});
