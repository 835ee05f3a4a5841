//! The sticky cookie: no value but the right one is taken for it, and the right one is found among
//! whatever else a client sends.
#![no_main]

use std::cell::LazyCell;
use std::sync::Arc;

use headgate::balancer::sticky::Sticky;
use libfuzzer_sys::fuzz_target;

const NAME: &str = "DAB_ROUTE";

thread_local! {
    static STICKY: LazyCell<(Sticky, [Vec<u8>; 2])> = LazyCell::new(|| {
        let addresses: [Arc<str>; 2] = ["10.0.0.1:80".into(), "10.0.0.2:80".into()];
        let sticky = Sticky::new(&NAME.into(), b"0123456789abcdef", "shop", &addresses);
        let pair = |member| {
            let set = sticky.cookie(member, false).expect("a cookie").as_bytes();
            set.split(|byte| *byte == b';').next().expect("a pair").to_vec()
        };
        let pairs = [pair(0), pair(1)];
        (sticky, pairs)
    });
}

fuzz_target!(|data: &[u8]| {
    STICKY.with(|state| {
        let (sticky, pairs) = &**state;
        let fields: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
        let found = sticky.member(fields.iter().copied());
        if let Some(member) = found {
            let pair = &pairs[member];
            assert!(data.windows(pair.len()).any(|part| part == &pair[..]));
        }
        let mut first = fields.clone();
        first.insert(0, &pairs[1]);
        assert_eq!(sticky.member(first.into_iter()), Some(1));
        if found.is_none() {
            let last: Vec<u8> = [b"a=b; ", &pairs[0][..], b" ;"].concat();
            let mut all = fields;
            all.push(&last);
            assert_eq!(sticky.member(all.into_iter()), Some(0));
        }
    });
});
