//! What the YAML parser's complaints mean to an operator.
//!
//! `marks` asks when the text cannot be parsed. The parser names the rule of the grammar that was
//! broken; what is wanted is the mistake that usually breaks it. Nothing of a value is repeated here,
//! since it may be a secret.

use std::net::Ipv6Addr;

use super::errors::quotable;

/// A syntax error in an operator's words, with what usually causes it.
pub(crate) fn explain(info: &str, line: &str, column: usize) -> (String, Option<String>) {
    let rest: String = line.chars().skip(column.saturating_sub(1)).collect();
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    let explained = |message: &str, hint: &str| (message.to_owned(), Some(hint.to_owned()));
    if indent.contains('\t') {
        return explained(
            "a tab in the indentation",
            "indent with spaces; YAML allows no tabs",
        );
    }
    if info.contains("unknown anchor") {
        return explained(
            "a value that starts with `*` repeats a value named with `&`, and there is none",
            "put the value in quotes: \"*.shop.example\"",
        );
    }
    if let Some(address) = bare_ipv6(line, column) {
        return (
            "an address that begins with `[` reads as a list".to_owned(),
            Some(format!("put it in quotes: \"{address}\"")),
        );
    }
    if info.contains("unexpected character") || info.contains("any token") {
        let first = rest.chars().next().map(String::from).unwrap_or_default();
        let message = format!("a value cannot start with `{}`", quotable(&first));
        return (message, Some("put the value in quotes".to_owned()));
    }
    if info.contains("mapping values are not allowed") {
        return explained(
            "a `:` where no key can stand",
            "check the indentation of this line and the one before, and that a space follows \
             each `:`; put a value that contains `: ` in quotes",
        );
    }
    if info.contains("did not find expected ',' or '}'") {
        return explained(
            "expected `,` or `}` here",
            "put a value that contains braces in quotes: { path: \"/users/{id}\" }",
        );
    }
    if info.contains("did not find expected ',' or ']'")
        || info.contains("illegal placement of ':'")
        || info.contains("flow construct")
    {
        return explained(
            "a list in brackets is not closed, or an entry is not separated",
            "check for a missing `]`, `}` or `,` here and on the lines before",
        );
    }
    if info.contains("quoted scalar") && !info.contains("escape") && !info.contains("hex") {
        return explained(
            "a quoted text does not end",
            "is the closing quote missing?",
        );
    }
    if info.contains("expected '-' indicator") || info.contains("did not find expected key") {
        return explained(
            "this line does not belong to what it is indented under",
            "check the indentation: keys of one mapping, and the `-` of one list, start in the \
             same column",
        );
    }
    if info.contains("misplaced bracket") || info.contains("expected node content") {
        return explained(
            "expected a value here",
            "check for a bracket too many or of the wrong kind; put a value that starts with one \
             in quotes",
        );
    }
    (format!("not valid YAML: {}", quotable(info)), None)
}

/// The IPv6 address with its port whose bracket closes before `column`, if there is one: to YAML it is a
/// list, and what follows is too much.
fn bare_ipv6(line: &str, column: usize) -> Option<String> {
    let (at, _) = line.char_indices().nth(column.checked_sub(1)?)?;
    let (before, rest) = line.split_at_checked(at)?;
    let (_, inner) = before.strip_suffix(']')?.rsplit_once('[')?;
    let address: Ipv6Addr = inner.parse().ok()?;
    let port: String = rest
        .strip_prefix(':')?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    (!port.is_empty()).then(|| format!("[{address}]:{port}"))
}
