//! Texts with variables of the request in them: `https://{host}{path}`.
//!
//! Only `{word}` is a variable; other braces stand for themselves, since fields such as `Report-To`
//! hold JSON. Invariant: a text without variables is a proven field value.

use std::sync::Arc;

use http::HeaderValue;

use super::fields::Fault;
use crate::config::errors::quotable;
use crate::config::model::{Piece, Template, Variable};
use crate::config::suggest::closest;

const VARIABLES: [(&str, Variable); 6] = [
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("request_id", Variable::RequestId),
    ("scheme", Variable::Scheme),
];

/// The value of a field.
pub(super) fn field_value(typed: &str) -> Result<Template, Fault> {
    proven(typed)?;
    let pieces = pieces(typed)?;
    Ok(match &pieces[..] {
        [] | [Piece::Text(_)] => Template::Fixed(fixed(typed)?),
        _ => Template::Made(pieces),
    })
}

/// The value of `Location`: an absolute URL or a path.
pub(super) fn location(typed: &str) -> Result<Template, Fault> {
    let starts = ["https://", "http://", "{scheme}://", "/", "{path}"];
    if !starts.iter().any(|start| typed.starts_with(start)) || typed.starts_with("//") {
        let message = format!("`{}` is not a URL to go to", quotable(typed));
        let hint = "write a whole URL or a path, such as \"https://{host}{path}{query}\"";
        return Err(Fault::new(message, hint));
    }
    if typed.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        let message = format!("`{}` has characters that no URL may have", quotable(typed));
        return Err(Fault::new(message, "write them as `%` and two hex digits"));
    }
    field_value(typed)
}

/// A field value without variables.
pub(super) fn fixed(typed: &str) -> Result<HeaderValue, Fault> {
    proven(typed)
}

fn proven(typed: &str) -> Result<HeaderValue, Fault> {
    match HeaderValue::from_str(typed) {
        Ok(value) if typed.trim() == typed => Ok(value),
        _ => Err(Fault::new(
            format!("no header can have the value `{}`", quotable(typed)),
            "use visible ASCII characters, without blanks around them",
        )),
    }
}

fn pieces(typed: &str) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = typed;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let word = after.split_once('}').filter(|(word, _)| is_word(word));
        let Some((word, after)) = word else {
            text.push('{');
            rest = after;
            continue;
        };
        let Some((_, variable)) = VARIABLES.iter().find(|(name, _)| *name == word) else {
            return Err(unknown(word));
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(Arc::from(std::mem::take(&mut text))));
        }
        pieces.push(Piece::Variable(*variable));
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(Arc::from(text)));
    }
    Ok(pieces)
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn unknown(word: &str) -> Fault {
    let names = VARIABLES.map(|(name, _)| name);
    let hint = closest(word, names).map_or_else(
        || {
            format!(
                "the variables are {}",
                names.map(|name| format!("`{{{name}}}`")).join(", ")
            )
        },
        |near| format!("did you mean `{{{near}}}`?"),
    );
    Fault::new(
        format!("there is no variable `{{{}}}`", quotable(word)),
        hint,
    )
}
