//! The strict origin: reads requests by a grammar of its own and records every one.
//!
//! A request that leaves any doubt is recorded as a fault, with its bytes, and its connection is
//! closed. A good one is answered with its nonce in `X-Seen`. Invariant: shares no code with
//! Headgate, and repairs nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) nonce: String,
    /// What was not as it must be.
    pub(crate) fault: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

type Record = Rc<RefCell<HashMap<u64, Vec<Seen>>>>;

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    record: Record,
}

impl Origin {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let record = Record::default();
        let shared = Rc::clone(&record);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(connection(stream, Rc::clone(&shared)));
            }
        });
        Ok(Self { address, record })
    }

    /// What arrived of a stream.
    pub(crate) fn take(&self, stream: u64) -> Vec<Seen> {
        self.record.borrow_mut().remove(&stream).unwrap_or_default()
    }

    /// What arrived of any.
    pub(crate) fn take_all(&self) -> Vec<Seen> {
        self.record
            .borrow_mut()
            .drain()
            .flat_map(|(_, seen)| seen)
            .collect()
    }
}

async fn connection(mut stream: TcpStream, record: Record) {
    stream.set_nodelay(true).ok();
    let mut bytes = Vec::new();
    loop {
        match read(&bytes) {
            Ok(None) => match stream.read_buf(&mut bytes).await {
                Ok(count) if count > 0 => {}
                // An exchange that was cut: what came is no message, and says so by its end.
                _ => return,
            },
            Ok(Some(request)) => {
                let raw: Vec<u8> = bytes.drain(..request.length).collect();
                if request.target == "/healthz" {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                    continue;
                }
                let (nonce, method) = (request.nonce.clone(), request.method.clone());
                keep(&record, &request.nonce, None, raw);
                let body = if method == "HEAD" { "" } else { "ok" };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Seen: {nonce}\r\n\
                     X-Method: {method}\r\n\r\n{body}"
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Err(fault) => {
                let nonce = find_nonce(&bytes);
                keep(&record, &nonce, Some(fault), std::mem::take(&mut bytes));
                let answer =
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).await.ok();
                return;
            }
        }
    }
}

fn keep(record: &Record, nonce: &str, fault: Option<String>, bytes: Vec<u8>) {
    let stream = nonce
        .split('.')
        .next()
        .and_then(|number| number.parse().ok());
    let seen = Seen {
        nonce: nonce.to_owned(),
        fault,
        bytes,
    };
    record
        .borrow_mut()
        .entry(stream.unwrap_or(u64::MAX))
        .or_default()
        .push(seen);
}

/// The nonce in a field's value, or in bytes that are no request: none that a mutation could have
/// touched, see `streams`.
fn find_nonce(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let found = text.split("=N=").nth(1).unwrap_or_default();
    found.split('=').next().unwrap_or_default().to_owned()
}

#[derive(Debug)]
struct Read {
    method: String,
    target: String,
    nonce: String,
    length: usize,
}

/// One request from the start of `bytes`: none if there is more to come.
fn read(bytes: &[u8]) -> Result<Option<Read>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return match bytes.iter().position(|&byte| byte == b'\n') {
            Some(at) if at == 0 || bytes.get(at - 1) != Some(&b'\r') => Err("a bare LF".to_owned()),
            _ => Ok(None),
        };
    };
    let head = bytes.get(..end).unwrap_or_default();
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if head.iter().filter(|&&byte| byte == b'\n').count()
        != head.windows(2).filter(|pair| pair == b"\r\n").count()
    {
        return Err("a bare LF".to_owned());
    }
    let first = lines.next().unwrap_or_default();
    let (method, target) = request_line(first)?;
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines {
        fields.push(field(line)?);
    }
    let all = |name: &str| -> Vec<&[u8]> {
        fields
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_slice())
            .collect()
    };
    match all("host").as_slice() {
        [host]
            if !host.is_empty()
                && host
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(b)) => {}
        [_] => return Err("a bad Host".to_owned()),
        hosts => return Err(format!("{} Host fields", hosts.len())),
    }
    let body_at = end + 4;
    let rest = bytes.get(body_at..).unwrap_or_default();
    let body = match (
        all("content-length").as_slice(),
        all("transfer-encoding").as_slice(),
    ) {
        ([], []) => Some(0),
        ([length], []) => {
            if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                return Err("a bad Content-Length".to_owned());
            }
            let length: usize = String::from_utf8_lossy(length)
                .parse()
                .map_err(|_error| "a huge Content-Length")?;
            (rest.len() >= length).then_some(length)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => chunked(rest)?,
        ([], [_]) => return Err("another transfer coding".to_owned()),
        _ => return Err("framed more than once".to_owned()),
    };
    let nonces = all("x-nonce");
    let nonce = match nonces.as_slice() {
        [nonce] => find_nonce(nonce),
        // Merged or lost: no message of a client has that.
        _ => String::new(),
    };
    Ok(body.map(|length| Read {
        method,
        target,
        nonce,
        length: body_at + length,
    }))
}

fn request_line(line: &[u8]) -> Result<(String, String), String> {
    let text = std::str::from_utf8(line).map_err(|_error| "a request line that is not ASCII")?;
    let parts: Vec<&str> = text.split(' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Err("a request line of other than three parts".to_owned());
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err("a bad method".to_owned());
    }
    if !(target.starts_with('/') || *target == "*")
        || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
    {
        return Err("a bad target".to_owned());
    }
    if *version != "HTTP/1.1" && *version != "HTTP/1.0" {
        return Err("a bad version".to_owned());
    }
    Ok(((*method).to_owned(), (*target).to_owned()))
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or("a field without a colon")?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err("a bad field name".to_owned());
    }
    let value = value.get(1..).unwrap_or_default();
    if value
        .iter()
        .any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
    {
        return Err("a control byte in a field".to_owned());
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok((name, value.trim_ascii().to_vec()))
}

/// Length of a whole chunked body; none if there is more to come.
fn chunked(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(line) = line(bytes, at)? else {
            return Ok(None);
        };
        let digits = String::from_utf8_lossy(line).into_owned();
        if digits.is_empty()
            || digits.len() > 16
            || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(format!("a bad chunk size `{digits}`"));
        }
        let size = usize::from_str_radix(&digits, 16).map_err(|_error| "a huge chunk")?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size).ok_or("a huge chunk")?;
        let Some(after) = bytes.get(end..end + 2) else {
            return Ok(None);
        };
        if after != b"\r\n" {
            return Err("a chunk without its end".to_owned());
        }
        at = end + 2;
    }
    loop {
        let Some(line) = line(bytes, at)? else {
            return Ok(None);
        };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
        let (name, _) = field(line)?;
        if matches!(
            &*name,
            "content-length" | "transfer-encoding" | "host" | "trailer"
        ) {
            return Err(format!("{name} in a trailer"));
        }
    }
}

fn line(bytes: &[u8], at: usize) -> Result<Option<&[u8]>, String> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let line = rest.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").ok_or("a bare LF in a body")?;
    if line.contains(&b'\r') {
        return Err("a bare CR in a body".to_owned());
    }
    Ok(Some(line))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
