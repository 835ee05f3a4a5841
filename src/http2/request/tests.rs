//! Requests as literals, from which `read` makes what the road takes.

use super::*;

const BOUNDS: Bounds = Bounds {
    fields: 10,
    bytes: 600,
    target: 100,
};

fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(short @ ..127) => block.push(short),
                _ => {
                    let rest = text.len().checked_sub(127).unwrap();
                    let [low, high] = [rest % 128, rest / 128].map(|it| u8::try_from(it).unwrap());
                    block.extend([127, low | 128, high]);
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

fn judge(fields: &[(&str, &str)], follows: bool) -> Result<Read, Refusal> {
    let about = About {
        bounds: BOUNDS,
        scheme: "https",
        follows,
    };
    let mut arena = BytesMut::new();
    read(
        &mut Decoder::default(),
        &literals(fields),
        &mut arena,
        about,
    )
}

fn get<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "shop.test:1"),
        (":path", "/a?b=c"),
    ];
    fields.extend(more);
    fields
}

fn asked(fields: &[(&str, &str)]) -> Asked {
    match judge(fields, true).unwrap() {
        Read::Request(asked) => asked,
        Read::Malformed(what) => panic!("{what}"),
    }
}

fn fault(more: &[(&str, &str)]) -> Option<Fault> {
    asked(&get(more)).fault
}

#[test]
fn a_request_ends_up_in_origin_form_with_its_authority_in_host() {
    let it = asked(&get(&[("x", "y"), ("expect", "100-Continue")]));
    assert_eq!(
        (it.head.uri.clone(), it.fault),
        (Uri::from_static("/a?b=c"), None)
    );
    assert_eq!(it.head.headers[HOST], "shop.test:1");
    assert!(it.expects && it.tunnel.is_none());
    let it = asked(&[
        (":method", "OPTIONS"),
        (":path", "*"),
        (":scheme", "HTTPS"),
        ("host", "shop.test"),
    ]);
    assert_eq!(
        (it.head.headers[HOST].as_bytes(), it.fault),
        (&b"shop.test"[..], None)
    );
    assert_eq!(it.head.uri, "*");
}

#[test]
fn a_scheme_that_is_not_the_connections_stays_for_the_road_to_judge() {
    let mut fields = get(&[]);
    fields[1].1 = "http";
    let it = asked(&fields);
    assert_eq!(
        (it.head.uri.clone(), it.fault),
        (Uri::from_static("http://shop.test:1/a?b=c"), None)
    );
    for scheme in ["", "a b", "http:"] {
        fields[1].1 = scheme;
        assert!(asked(&fields).fault.is_some(), "{scheme:?}");
    }
}

#[test]
fn a_host_that_repeats_the_authority_is_one_host_and_another_is_refused() {
    let it = asked(&get(&[("host", "SHOP.test:1"), ("host", "shop.test:1")]));
    assert_eq!(it.head.headers.get_all(HOST).iter().count(), 1);
    assert_eq!(it.fault, None);
    for host in ["evil.test", "shop.test", ""] {
        assert!(fault(&[("host", host)]).is_some());
    }
}

#[test]
fn crumbs_become_one_cookie_and_one_cookie_stays_as_it_is() {
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")];
    for (count, joined) in [(1, "a=1"), (2, "a=1; b=2"), (3, "a=1; b=2; c=3; d=4")] {
        let it = asked(&get(&crumbs[..count]));
        let all: Vec<_> = it.head.headers.get_all(COOKIE).iter().collect();
        assert_eq!(all, [joined]);
    }
}

#[test]
fn too_much_is_refused_by_what_it_is_too_much_of_and_far_too_much_ends_the_connection() {
    let long = "x".repeat(600);
    assert_eq!(fault(&[("a", "b"); 10]), None);
    assert_eq!(fault(&[("a", "b"); 11]), Some(Fault::TooManyFields));
    assert_eq!(fault(&[("a", &long)]), Some(Fault::HeadTooLarge));
    let path = format!("/{}", "x".repeat(100));
    let mut fields = get(&[]);
    fields[3].1 = &path;
    assert_eq!(asked(&fields).fault, Some(Fault::TargetTooLong));
    for more in [vec![("a", "b"); 17], vec![("a", &*long); 2]] {
        assert_eq!(judge(&get(&more), true).map(drop), Err(Refusal::TooLarge));
    }
}

#[test]
fn content_length_is_a_number_that_is_said_once_and_is_true() {
    let lengths = |list: &[&'static str]| -> Vec<_> {
        list.iter()
            .map(|value| ("content-length", *value))
            .collect()
    };
    assert_eq!(asked(&get(&lengths(&["12"]))).length, Some(12));
    for wrong in [
        &["+1"][..],
        &["1, 1"],
        &["1", "2"],
        &["0x1"],
        &["99999999999999999999"],
    ] {
        let read = judge(&get(&lengths(wrong)), true).unwrap();
        assert!(matches!(read, Read::Malformed(_)), "{wrong:?}");
    }
    for refused in [&[""][..], &["1", "1"]] {
        assert!(fault(&lengths(refused)).is_some(), "{refused:?}");
    }
    for (length, fits) in [("0", true), ("1", false)] {
        let read = judge(&get(&lengths(&[length])), false).unwrap();
        assert_eq!(matches!(read, Read::Request(_)), fits);
    }
}

#[test]
fn an_extended_connect_is_a_get_that_offers_a_tunnel_and_a_plain_one_is_let_through() {
    let mut fields = get(&[("content-length", "5")]);
    fields[0].1 = "CONNECT";
    fields.insert(0, (":protocol", "WebSocket"));
    let it = asked(&fields);
    assert_eq!(it.tunnel.as_deref(), Some("websocket"));
    assert_eq!((it.head.method.clone(), it.length), (Method::GET, None));
    assert!(!it.head.headers.contains_key(CONTENT_LENGTH));
    let it = asked(&[(":method", "CONNECT"), (":authority", "shop.test:80")]);
    assert_eq!((it.head.method.clone(), it.fault), (Method::CONNECT, None));
}

#[test]
fn pseudo_header_fields_come_once_and_first_and_all_that_are_needed() {
    for name in [":method", ":scheme", ":path"] {
        let mut fields = get(&[]);
        fields.retain(|(known, _)| *known != name);
        assert!(
            matches!(judge(&fields, true), Ok(Read::Malformed(_))),
            "{name}"
        );
        let mut fields = get(&[]);
        let value = fields.iter().find(|(known, _)| *known == name).unwrap().1;
        fields.push((name, value));
        assert!(
            matches!(judge(&fields, true), Ok(Read::Malformed(_))),
            "{name}"
        );
    }
    let mut fields = get(&[]);
    fields.insert(0, ("x", "y"));
    assert!(matches!(judge(&fields, true), Ok(Read::Malformed(_))));
}
