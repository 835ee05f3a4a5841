//! Each MUST of RFC 7541 that binds a decoder, named after its section.

use super::Scene;
use super::hpack::{integer, literals};
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
    s4_2_a_size_update_behind_a_field_is_an_error: &[0x20];
    s5_1_an_integer_without_an_end_is_an_error: &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    s5_1_an_integer_that_is_cut_is_an_error: &[0xff];
    s5_2_a_string_that_is_cut_is_an_error: &[0, 5, b'x'];
    s5_2_padding_of_more_than_seven_bits_is_an_error: &[0, 1, b'x', 0x82, 0x1f, 0xff];
    s5_2_padding_that_is_not_ones_is_an_error: &[0, 1, b'x', 0x81, 0x18];
    s5_2_eos_within_a_string_is_an_error: &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff];
    s6_1_index_0_is_an_error: &[0x80];
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
