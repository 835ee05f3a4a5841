//! Blocks by hand, and the examples of RFC 7541 appendix C.

use bytes::BytesMut;
use http::StatusCode;
use http::header::{HeaderValue, SET_COOKIE};

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(Field, Option<Flaw>)>, Refusal> {
    let mut all = Vec::new();
    decoder.read(block, &mut BytesMut::new(), |come| {
        all.push((come.entry().field.clone(), come.entry().flaw));
        Ok(())
    })?;
    Ok(all)
}

/// As text, flawless.
fn texts(decoder: &mut Decoder, block: &[u8]) -> Vec<String> {
    let all = fields(decoder, block).unwrap();
    all.into_iter()
        .map(|(field, flaw)| {
            assert_eq!(flaw, None, "{field:?}");
            match field {
                Field::Method(method) => format!(":method: {method}"),
                Field::Scheme(text) => format!(":scheme: {}", text.to_str().unwrap()),
                Field::Authority(text) => format!(":authority: {}", text.to_str().unwrap()),
                Field::Path(uri) => format!(":path: {uri}"),
                Field::Protocol(text) => format!(":protocol: {}", text.to_str().unwrap()),
                Field::Status => ":status".to_owned(),
                Field::Plain(name, text) => format!("{name}: {}", text.to_str().unwrap()),
            }
        })
        .collect()
}

/// Appendices C.3 and C.4: three requests of one connection, plain and Huffman coded. The sizes of
/// the dynamic table are the RFC's own.
#[test]
fn the_requests_of_rfc_7541_appendix_c_come_out_and_leave_its_table_sizes() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let first = [
        ":method: GET",
        ":scheme: http",
        ":path: /",
        ":authority: www.example.com",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        assert_eq!(texts(&mut decoder, &hex(blocks[0])), first);
        assert_eq!(decoder.table.size(), 57);
        let second = texts(&mut decoder, &hex(blocks[1]));
        assert_eq!(second[..4], first);
        assert_eq!(second[4], "cache-control: no-cache");
        assert_eq!(decoder.table.size(), 110);
        let third = texts(&mut decoder, &hex(blocks[2]));
        assert_eq!(
            third,
            [
                ":method: GET",
                ":scheme: https",
                ":path: /index.html",
                ":authority: www.example.com",
                "custom-key: custom-value"
            ]
        );
        assert_eq!(decoder.table.size(), 164);
    }
}

/// Appendix C.5 has a table of 256 bytes, so that entries are evicted.
#[test]
fn entries_are_evicted_as_in_rfc_7541_appendix_c_5() {
    let mut decoder = Decoder::default();
    decoder.table.resize(256).unwrap();
    let block = "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                 6c65 2e63 6f6d";
    fields(&mut decoder, &hex(block)).unwrap();
    assert_eq!(decoder.table.size(), 222);
    fields(&mut decoder, &hex("4803 3330 37c1 c0bf")).unwrap();
    assert_eq!(decoder.table.size(), 222);
}

#[test]
fn what_cannot_be_decoded_is_told_from_what_may_not_be_said() {
    for block in [
        "80",              // index 0
        "be",              // an index beyond the tables
        "ff ffff ffff 7f", // an integer of six bytes
        "82 3f e1 1f",     // a size update after a field
        "3f e2 1f",        // a size update above what was announced
        "40 05 61",        // a string that is cut
        "40 81 ff 00",     // padding of eight bits
        "41",              // no value
    ] {
        let refused = fields(&mut Decoder::default(), &hex(block)).map(drop);
        assert_eq!(refused, Err(Refusal::Undecodable), "{block}");
    }
    for block in [
        &b"\x00\x01X\x01y"[..],
        b"\x00\x00\x01y",
        b"\x00\x03x:y\x01y",
        b"\x00\x05:what\x01y",
        b"\x00\x01x\x03a\r\n",
        b"\x00\x01x\x01\x00",
        b"\x00\x01x\x01\x7f",
        b"\x02\x03G T",
        b"\x02\x00",
        b"\x04\x04/a#b",
        b"\x44\x04/a#b",
    ] {
        let refused = fields(&mut Decoder::default(), block).map(drop);
        assert!(matches!(refused, Err(Refusal::Illegal(_))), "{block:?}");
    }
    assert!(
        fields(&mut Decoder::default(), &hex("3f e1 1f"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_is_wrong_with_one_field_stays_with_it_in_the_table_too() {
    let malformed = [
        &b"\x40\x0aconnection\x05close"[..],
        b"\x40\x02te\x04gzip",
        b"\x41\x00",
        b"\x41\x03a b",
        b"\x41\x02\r\n",
        b"\x44\x00",
        b"\x44\x04/a b",
        b"\x44\x02/\xff",
        b"\x48\x03200",
    ];
    let refused = [
        &b"\x40\x01x\x02 y"[..],
        b"\x40\x01x\x02y\t",
        b"\x40\x03x\"y\x01y",
        b"\x44\x01a",
        b"\x41\x03a@b",
    ];
    for (block, resets) in [(&malformed[..], true), (&refused[..], false)]
        .into_iter()
        .flat_map(|(blocks, resets)| blocks.iter().map(move |block| (block, resets)))
    {
        let mut decoder = Decoder::default();
        for block in [block, &b"\xbe"[..]] {
            let flaw = fields(&mut decoder, block).unwrap().remove(0).1;
            let fits = match flaw {
                Some(Flaw::Malformed(_)) => resets,
                Some(Flaw::Refused(_)) => !resets,
                None => false,
            };
            assert!(fits, "{block:?}: {flaw:?}");
        }
    }
    assert_eq!(
        texts(&mut Decoder::default(), b"\x00\x02te\x08trailers").len(),
        1
    );
}

#[test]
fn an_entry_of_the_table_holds_no_more_than_its_own_bytes() {
    let mut decoder = Decoder::default();
    let mut arena = BytesMut::with_capacity(1 << 16);
    let begins = arena.as_ptr() as usize;
    let within = |at: *const u8| (begins..begins + (1 << 16)).contains(&(at as usize));
    let mut next = |block: &[u8]| {
        let mut came = None;
        let read = decoder.read(block, &mut arena, |come| {
            match &come.entry().field {
                Field::Plain(_, value) => came = Some(value.clone()),
                other => panic!("{other:?}"),
            }
            Ok(())
        });
        read.unwrap();
        came.unwrap()
    };
    let kept = next(b"\x40\x01x\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f");
    assert_eq!(kept, "custom-key");
    assert!(!within(kept.as_bytes().as_ptr()));
    let passing = next(b"\x00\x01x\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f");
    assert_eq!(passing, kept);
    assert!(
        within(passing.as_bytes().as_ptr()),
        "copied once, and not kept"
    );
    assert_eq!(next(b"\xbe").as_bytes().as_ptr(), kept.as_bytes().as_ptr());
}

/// Fields of every length and kind, read again by the decoder.
#[test]
fn what_is_encoded_is_decoded_to_the_same() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for round in 0..300 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        assert_eq!(block.len(), usize::from(round == 0), "the size update");
        let mut wanted = Vec::new();
        for _ in 0..random.usize(..10) {
            let names = ["content-type", "x-served-by", "set-cookie", "age", "via"];
            let name = names[random.usize(..names.len())];
            let text = "v".repeat(random.usize(..300));
            let value = HeaderValue::from_str(&text).unwrap();
            encode::field(&mut block, name, &value);
            wanted.push(format!("{name}: {text}"));
        }
        assert_eq!(texts(&mut decoder, &block), wanted);
        assert_eq!(decoder.table.size(), 0);
    }
    for code in 100..600 {
        let mut block = Vec::new();
        encode::status(&mut block, StatusCode::from_u16(code).unwrap());
        let all = fields(&mut decoder, &block).unwrap();
        assert!(matches!(all[..], [(Field::Status, _)]), "{code}: {block:?}");
        assert_eq!(block.len() == 1, block[0] & 0x80 != 0);
    }
}

#[test]
fn what_is_secret_is_never_indexed() {
    let mut value = HeaderValue::from_static("1");
    let first = |name: &str, value: &HeaderValue| {
        let mut block = Vec::new();
        encode::field(&mut block, name, value);
        block[0]
    };
    assert_eq!(first("x", &value), 0);
    assert_eq!(first(SET_COOKIE.as_str(), &value) & 0xf0, 0x10);
    value.set_sensitive(true);
    assert_eq!(first("x", &value), 0x10);
}

#[test]
fn any_bytes_are_decoded_without_a_panic_and_within_the_table() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut decoder = Decoder::default();
    for _ in 0..20_000 {
        let block: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
        let _any = fields(&mut decoder, &block);
        assert!(decoder.table.size() <= 4096);
    }
}
