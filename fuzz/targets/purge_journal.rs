//! The journal of purges: what can be read says the same when it was written anew, and nothing is read that
//! was cut. Records are parted by line feeds; the first line is a URL to judge.
#![no_main]

use headgate::cache::fuzzing::Journal;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    assert!(Journal::read(data).is_none());
    let mut lines = data.split(|byte| *byte == b'\n');
    let url = lines.next().unwrap_or_default();
    let records: Vec<&[u8]> = lines.collect();
    let bytes = Journal::of(7, u64::from(data.len() as u8 & 3), &records);
    let Some(mut journal) = Journal::read(&bytes) else {
        return;
    };
    for cut in [bytes.len() - 1, bytes.len() / 2] {
        assert!(Journal::read(&bytes[..cut]).is_none());
    }
    let rewritten = journal.rewritten();
    let again = Journal::read(&rewritten).expect("what was written");
    assert_eq!(again.last(), journal.last());
    for born in [
        0,
        1,
        journal.last().wrapping_sub(1),
        journal.last(),
        u64::MAX,
    ] {
        assert_eq!(again.standing(born, url), journal.standing(born, url));
    }
});
