//! Each MUST of RFC 7541 that binds a decoder, named after its section.

use crate::harness::Seen;

use super::Scene;
use super::hpack::{entered, huffman, integer, literals, resized};
use super::wire::*;

/// `GET https://.../bad` and then `more`.
fn block(more: &[u8]) -> Vec<u8> {
    [&literals(&fields("GET", "/bad", &[])), more].concat()
}

fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

macro_rules! cannot_be_decoded {
    ($($name:ident: $more:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let mut scene = Scene::new().await;
            scene.refuses(&[request(1, &block($more))], COMPRESSION_ERROR).await;
        })*
    };
}

cannot_be_decoded! {
    s2_3_3_an_index_beyond_the_tables_is_an_error: &[0x80 | 62];
    s2_3_3_a_name_index_beyond_the_tables_is_an_error: &[0x40 | 62, 1, b'x'];
    s2_3_3_a_name_index_beyond_the_tables_is_an_error_without_indexing: &[0x0f, 62 - 15, 1, b'x'];
    s2_3_3_a_name_index_beyond_the_tables_is_an_error_never_indexed: &[0x1f, 62 - 15, 1, b'x'];
    s2_3_3_the_index_behind_the_last_entry_is_an_error: &[0x40, 1, b'x', 1, b'y', 0x80 | 62, 0x80 | 63];
    s2_3_3_an_index_far_beyond_the_tables_is_an_error: &[0xff, 0xff, 0xff, 0x7f];
    s4_2_a_size_update_behind_a_field_is_an_error: &[0x20];
    s5_1_an_integer_without_an_end_is_an_error: &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    s5_1_an_integer_that_is_cut_is_an_error: &[0xff];
    s5_1_an_index_that_overflows_is_an_error: &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    s5_1_an_index_that_wraps_around_32_bits_is_an_error: &[0xff, 0x83, 0xff, 0xff, 0xff, 0x0f];
    s5_1_a_length_that_overflows_is_an_error: &[0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, b'x'];
    s5_1_a_length_that_wraps_around_32_bits_is_an_error: &[0, 0x7f, 0x82, 0xff, 0xff, 0xff, 0x0f, b'x', 1, b'y'];
    s5_1_an_integer_of_zeros_without_end_is_an_error: &[&[0xff][..], &[0x80; 200], &[0]].concat();
    s5_1_a_name_index_that_is_cut_is_an_error: &[0x7f, 0x80];
    s5_2_a_value_that_is_missing_is_an_error: &[0, 1, b'x'];
    s5_2_a_huffman_string_that_is_cut_is_an_error: &[0, 1, b'x', 0x85, 0x1f];
    s5_2_a_string_longer_than_any_is_an_error: &[0, 1, b'x', 0x7f, 0xff, 0xff, 0xff, 0x07, b'y'];
    s5_2_a_byte_of_padding_alone_is_an_error: &[0, 1, b'x', 0x81, 0xff];
    s5_2_a_name_with_too_much_padding_is_an_error: &[0, 0x82, 0x1f, 0xff, 1, b'x'];
    s5_2_a_code_that_does_not_end_is_an_error: &[0, 1, b'x', 0x83, 0xff, 0xff, 0xfa];
    s5_2_eos_in_a_name_is_an_error: &[0, 0x84, 0xff, 0xff, 0xff, 0xff, 1, b'x'];
    s5_2_a_string_that_is_cut_is_an_error: &[0, 5, b'x'];
    s5_2_padding_of_more_than_seven_bits_is_an_error: &[0, 1, b'x', 0x82, 0x1f, 0xff];
    s5_2_padding_that_is_not_ones_is_an_error: &[0, 1, b'x', 0x81, 0x18];
    s5_2_eos_within_a_string_is_an_error: &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff];
    s6_1_index_0_is_an_error: &[0x80];
    s6_3_a_size_update_that_is_cut_is_an_error: &[0x3f];
}

/// A block that begins with a size update, which may be an error by itself.
async fn begins_with(update: &[u8], code: Option<u32>) {
    let mut scene = Scene::new().await;
    let path = if code.is_some() { "/bad" } else { "/ok" };
    let head = literals(&fields("GET", path, &[]));
    let frames = [request(1, &[update, &head].concat())];
    match code {
        Some(code) => scene.refuses(&frames, code).await,
        None => {
            scene.wire.send(frames.concat()).await;
            scene.wire.answer(1).await.expect(200);
        }
    }
}

#[tokio::test]
async fn s6_3_a_size_update_that_overflows_is_an_error() {
    for update in [
        &[0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &[0x3f, 0xe1, 0xff, 0xff, 0xff, 0x0f],
        &resized(1 << 20),
    ] {
        begins_with(update, Some(COMPRESSION_ERROR)).await;
    }
}

#[tokio::test]
async fn s6_3_size_updates_up_to_the_limit_are_taken_at_the_start_of_a_block() {
    begins_with(&resized(4096), None).await;
    begins_with(&resized(0), None).await;
    // Both that may be needed (section 4.2).
    begins_with(&[resized(0), resized(4096)].concat(), None).await;
    begins_with(&[resized(100), resized(200)].concat(), None).await;
}

#[tokio::test]
async fn s6_3_the_second_of_two_size_updates_is_held_to_the_limit_too() {
    let updates = [resized(0), resized(4097)].concat();
    begins_with(&updates, Some(COMPRESSION_ERROR)).await;
}

#[tokio::test]
async fn s4_2_a_size_update_is_taken_at_the_start_of_trailers_and_not_within() {
    let mut scene = Scene::new().await;
    let trailers = [resized(0), literals(&[("x-sum", "1")])].concat();
    let frames = [post(1, "/ok", &[]), request(1, &trailers)];
    scene.wire.send(frames.concat()).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").trailers, ["x-sum: 1"]);
    // The start of a frame is not the start of a block.
    let head = literals(&fields("GET", "/bad", &[]));
    let frames = [
        frame(HEADERS, END_STREAM, 3, &head),
        frame(CONTINUATION, END_HEADERS, 3, &resized(0)),
    ];
    scene.refuses(&frames, COMPRESSION_ERROR).await;
}

impl Scene {
    /// A request whose block has this before and after its head reaches the origin.
    async fn passes(&mut self, stream: u32, before: &[u8], after: &[u8]) -> Seen {
        let head = literals(&fields("GET", "/ok", &[]));
        let block = [before, &head, after].concat();
        self.wire.send(request(stream, &block)).await;
        self.wire.answer(stream).await.expect(200);
        self.origin.last("/ok")
    }
}

/// 4 bytes of name, 3 of value and 32.
#[tokio::test]
async fn s4_1_an_entry_costs_its_name_its_value_and_32() {
    let two = [entered("x-it", "one"), entered("x-it", "two")].concat();
    let mut scene = Scene::new().await;
    scene.passes(1, &resized(78), &two).await;
    let seen = scene.passes(3, &[], &[0x80 | 62, 0x80 | 63]).await;
    assert_eq!(seen.all("x-it"), ["two", "one"]);
    // One byte less, and the older one is evicted (section 4.3).
    let seen = scene.passes(5, &resized(77), &[0x80 | 62]).await;
    assert_eq!(seen.all("x-it"), ["two"]);
    scene
        .refuses(&[request(7, &block(&[0x80 | 63]))], COMPRESSION_ERROR)
        .await;
}

/// Appendix C.4.3: 10 bytes and 12, which are 8 and 9 in Huffman's code.
#[tokio::test]
async fn s4_1_what_counts_is_the_length_without_huffman_coding() {
    let coded = [
        &[0x40][..],
        &huffman(b"custom-key"),
        &huffman(b"custom-value"),
    ]
    .concat();
    assert_eq!(coded.len(), 1 + 9 + 10);
    let mut scene = Scene::new().await;
    scene.passes(1, &resized(54), &coded).await;
    let seen = scene.passes(3, &[], &[0x80 | 62]).await;
    assert_eq!(seen.header("custom-key"), Some("custom-value"));
    let gone = [resized(53), block(&[0x80 | 62])].concat();
    scene.refuses(&[request(5, &gone)], COMPRESSION_ERROR).await;
}

#[tokio::test]
async fn s4_4_the_oldest_entries_make_room_for_a_new_one() {
    let mut scene = Scene::new().await;
    let three: Vec<u8> = ["one", "two", "six"]
        .into_iter()
        .flat_map(|value| entered("x-it", value))
        .collect();
    scene.passes(1, &resized(78), &three).await;
    let seen = scene.passes(3, &[], &[0x80 | 62, 0x80 | 63]).await;
    assert_eq!(seen.all("x-it"), ["six", "two"]);
    scene
        .refuses(&[request(5, &block(&[0x80 | 64]))], COMPRESSION_ERROR)
        .await;
}

#[tokio::test]
async fn s4_4_a_new_entry_may_take_its_name_from_the_one_that_it_evicts() {
    let mut scene = Scene::new().await;
    scene.passes(1, &resized(60), &entered("x-it", "one")).await;
    // Index 62 is its name; 4 + 20 + 32 bytes leave no room for it.
    let renewed = [&[0x40 | 62, 20][..], &[b'v'; 20]].concat();
    let seen = scene.passes(3, &[], &renewed).await;
    assert_eq!(seen.header("x-it"), Some("v".repeat(20).as_str()));
    let seen = scene.passes(5, &[], &[0x80 | 62]).await;
    assert_eq!(seen.all("x-it"), ["v".repeat(20)]);
    scene
        .refuses(&[request(7, &block(&[0x80 | 63]))], COMPRESSION_ERROR)
        .await;
}

#[tokio::test]
async fn s2_1_fields_keep_their_order_however_they_are_said() {
    let mut scene = Scene::new().await;
    let first = entered("x-it", "b");
    let second = literals(&[("x-it", "a")]);
    let more = [&first[..], &second, &[0x80 | 62], b"\x7e\x01c"].concat();
    let seen = scene.passes(1, &[], &more).await;
    assert_eq!(seen.all("x-it"), ["b", "a", "b", "c"]);
}

#[tokio::test]
async fn s2_3_2_an_entry_may_be_there_twice() {
    let mut scene = Scene::new().await;
    let twice = entered("x-it", "one").repeat(2);
    let seen = scene.passes(1, &[], &twice).await;
    assert_eq!(seen.all("x-it"), ["one", "one"]);
    let seen = scene.passes(3, &[], &[0x80 | 62, 0x80 | 63]).await;
    assert_eq!(seen.all("x-it"), ["one", "one"]);
}

/// Sections 6.2.2 and 6.2.3.
#[tokio::test]
async fn s3_2_literals_without_indexing_leave_the_table_as_it_is() {
    let mut scene = Scene::new().await;
    let more = b"\x00\x04x-it\x03one\x10\x04x-it\x03two\x0f\x10\x01q\x1f\x04\x01p";
    let seen = scene.passes(1, &[], more).await;
    assert_eq!(seen.all("x-it"), ["one", "two"]);
    // Names by 31 and 19, which are all four bits of a prefix, and 16 and 4.
    assert_eq!(seen.header("content-type"), Some("q"));
    assert_eq!(seen.header("accept"), Some("p"));
    scene
        .refuses(&[request(3, &block(&[0x80 | 62]))], COMPRESSION_ERROR)
        .await;
}

/// Everything that may be in a value, so nearly every code there is (Appendix B).
#[tokio::test]
async fn s5_2_every_byte_of_a_value_has_its_huffman_code() {
    let mut scene = Scene::new().await;
    let text: String = ('!'..='~')
        .chain('\u{80}'..='\u{7ff}')
        .chain(('\u{800}'..='\u{ffff}').step_by(900))
        .chain(('\u{10000}'..='\u{10ffff}').step_by(40_000))
        .collect();
    let coded = [&b"\x00\x04x-it"[..], &huffman(text.as_bytes())].concat();
    let seen = scene.passes(1, &[], &coded).await;
    assert!(seen.header("x-it") == Some(text.trim()), "{seen:?}");
    // And nothing is the code of nothing.
    let seen = scene.passes(3, &[], b"\x00\x04x-it\x80").await;
    assert_eq!(seen.header("x-it"), Some(""));
}

#[tokio::test]
async fn s6_3_a_size_update_above_the_limit_is_an_error() {
    let mut scene = Scene::new().await;
    let mut bytes = Vec::new();
    integer(4097, 5, 0x20, &mut bytes);
    bytes.extend(block(&[]));
    scene
        .refuses(&[request(1, &bytes)], COMPRESSION_ERROR)
        .await;
}

#[tokio::test]
async fn s2_3_2_what_was_indexed_is_found_again_in_later_blocks() {
    let mut scene = Scene::new().await;
    let head = literals(&fields("GET", "/ok", &[]));
    scene
        .wire
        .send(request(1, &[&head[..], b"\x40\x04x-it\x03one"].concat()))
        .await;
    scene.wire.answer(1).await.expect(200);
    // The newest entry is the first of the dynamic table; its name alone works too.
    scene
        .wire
        .send(request(3, &[&head[..], &[0x80 | 62]].concat()))
        .await;
    scene.wire.answer(3).await.expect(200);
    assert_eq!(scene.origin.last("/ok").header("x-it"), Some("one"));
    scene
        .wire
        .send(request(5, &[&head[..], b"\x7e\x03two"].concat()))
        .await;
    scene.wire.answer(5).await.expect(200);
    assert_eq!(scene.origin.last("/ok").header("x-it"), Some("two"));
}

#[tokio::test]
async fn s4_3_an_entry_that_was_evicted_is_gone() {
    let mut scene = Scene::new().await;
    let head = literals(&fields("GET", "/ok", &[]));
    scene
        .wire
        .send(request(1, &[&head[..], b"\x40\x04x-it\x03one"].concat()))
        .await;
    scene.wire.answer(1).await.expect(200);
    // The table shrinks to nothing and grows again.
    let mut bytes = vec![0x20];
    integer(4096, 5, 0x20, &mut bytes);
    bytes.extend(block(&[0x80 | 62]));
    scene
        .refuses(&[request(3, &bytes)], COMPRESSION_ERROR)
        .await;
}

#[tokio::test]
async fn s4_4_an_entry_larger_than_the_table_empties_it_and_is_no_error() {
    let mut scene = Scene::new().await;
    let head = literals(&fields("GET", "/ok", &[]));
    let mut bytes = head.clone();
    bytes.extend(b"\x40\x04x-it");
    integer(5000, 7, 0, &mut bytes);
    bytes.extend(vec![b'v'; 5000]);
    scene.wire.send(request(1, &bytes)).await;
    scene.wire.answer(1).await.expect(200);
    scene
        .refuses(&[request(3, &block(&[0x80 | 62]))], COMPRESSION_ERROR)
        .await;
}

#[tokio::test]
async fn s4_2_the_gate_keeps_to_the_table_that_the_client_allows() {
    // The decoder of the test fails at an index into a table that should be empty.
    let scene = Scene::new().await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(1, 0)]).await;
    for stream in [1, 3, 5] {
        let answer = wire.fetch(stream, "/ok").await.expect(200);
        assert_eq!(answer.header("x-served-by"), Some("a"));
    }
}

#[tokio::test]
async fn s5_2_huffman_strings_are_understood() {
    let mut scene = Scene::new().await;
    let head = literals(&fields("GET", "/ok", &[]));
    // Appendix C.4.3: custom-key: custom-value.
    let coded = [
        0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8, 0x49, 0xe9,
        0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
    ];
    scene
        .wire
        .send(request(1, &[&head[..], &coded].concat()))
        .await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(
        scene.origin.last("/ok").header("custom-key"),
        Some("custom-value")
    );
}
