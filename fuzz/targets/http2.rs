//! A connection of HTTP/2: whatever a client sends, however it is cut and whatever the owner does meanwhile,
//! the session keeps its bounds and frames what a client can read. The first 64 bytes are the owner's choices.
#![no_main]

use headgate::http2::Bounds;
use headgate::http2::session::{Terms, trial};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choices, bytes) = data.split_at(data.len().min(64));
    let terms = Terms {
        streams: 10,
        resets: 5,
        stream_window: 2000,
        connection_window: 5000,
        bounds: Bounds {
            fields: 20,
            bytes: 2000,
            target: 200,
        },
        scheme: "https",
    };
    // As often as the bytes need, so that all of them are shown.
    let rounds = bytes.len() / 16 + 64;
    let choices: Vec<u8> = choices.iter().copied().cycle().take(rounds).collect();
    trial::run(terms, bytes, &choices);
});
