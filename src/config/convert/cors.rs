//! `cors`: whose pages may read the answers of a route.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

use super::Cx;
use super::fields::{Fault, Unique};
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{Cors, MAX_CORS_AGE, OriginPattern, Origins};
use crate::config::raw;

impl Cx<'_> {
    pub(super) fn cors(self, raw: raw::Cors, at: At<'_>) -> Cors {
        let raw::Cors {
            origins,
            methods,
            headers,
            expose,
            credentials,
            max_age,
        } = raw;
        let credentials = credentials.0.unwrap_or_default();
        if origins.0.is_none() {
            let hint = "add `origins: [\"https://shop.example\"]`, or `[\"*\"]` for everybody";
            self.missing(at, "origins", "`cors` without `origins`", hint);
        }
        let origins = self.origins(origins, credentials, at);
        let methods = match methods.0 {
            None => vec![Method::GET, Method::HEAD, Method::POST],
            methods => self.methods(raw::Lenient(methods), at.field("methods")),
        };
        let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let allow_methods = HeaderValue::try_from(names.join(", "))
            .unwrap_or_else(|_impossible| HeaderValue::from_static("GET"));
        let max_age = self
            .duration(at, "max_age", &max_age, &(Duration::ZERO..=MAX_CORS_AGE))
            .map(|age| HeaderValue::from(age.as_secs()));
        Cors {
            origins,
            methods,
            allow_methods,
            allow_headers: self.name_list(headers, credentials, at.field("headers")),
            expose: self.name_list(expose, credentials, at.field("expose")),
            credentials,
            max_age,
        }
    }

    fn origins(self, raw: raw::List<String>, credentials: bool, at: At<'_>) -> Origins {
        let at_list = at.field("origins");
        let Some(items) = raw.0 else {
            return Origins::Of(Vec::new());
        };
        if items.is_empty() {
            self.error(
                at_list.span(),
                "`origins` is empty",
                "name one, or remove `cors`",
            );
        }
        let mut unique = Unique::new();
        let mut any = false;
        let mut patterns = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let at_item = at_list.item(index);
            if typed == "*" {
                any = true;
                if credentials {
                    let message = "`*` with `credentials` would hand every site the users' data";
                    self.error(at_item.span(), message, "name the origins that may");
                }
                continue;
            }
            if let Some(pattern) = self.settle(at_item, origin(&typed)) {
                unique.check(self, at_item.span(), "the origin", typed);
                patterns.push(pattern);
            }
        }
        if any {
            Origins::Any
        } else {
            Origins::Of(patterns)
        }
    }

    /// Names of fields as one value; `*` means all, which browsers take without credentials only.
    fn name_list(
        self,
        raw: raw::List<String>,
        credentials: bool,
        at: At<'_>,
    ) -> Option<HeaderValue> {
        let mut names: Vec<String> = Vec::new();
        for (index, item) in raw.0?.into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let span = at.item(index).span();
            if typed == "*" {
                if credentials {
                    let message = "`*` means nothing to browsers where there are `credentials`";
                    self.error(span, message, "name the headers");
                }
                names.push(typed);
            } else if let Some(name) = self.header_name(span, &typed) {
                names.push(name.to_string());
            }
        }
        (!names.is_empty())
            .then(|| HeaderValue::try_from(names.join(", ")).ok())
            .flatten()
    }
}

/// An origin as browsers spell it (RFC 6454 section 6.1), or `scheme://*.domain`.
fn origin(typed: &str) -> Result<OriginPattern, Fault> {
    const HINT: &str = "write it as browsers do: `https://shop.example`, without a path";
    let shown = quotable(typed);
    let wrong = |hint: &str| Err(Fault::new(format!("`{shown}` is not an origin"), hint));
    let Some((scheme, authority)) = typed.split_once("://") else {
        return wrong(HINT);
    };
    let (below, authority_host) = match authority.strip_prefix("*.") {
        Some(domain) => (true, domain),
        None => (false, authority),
    };
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
    let scheme_fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    if scheme.is_empty() || !scheme.bytes().all(scheme_fits) {
        return wrong(HINT);
    }
    if authority_host.is_empty() || !authority_host.bytes().all(fits) {
        return wrong(if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            "browsers write it in lower case"
        } else {
            HINT
        });
    }
    let own = [("https", ":443"), ("http", ":80")];
    if own
        .iter()
        .any(|(of, port)| *of == scheme && authority.ends_with(port))
    {
        return wrong("browsers leave out the scheme's own port");
    }
    Ok(if below {
        OriginPattern::Below {
            scheme: Arc::from(format!("{scheme}://")),
            suffix: Arc::from(format!(".{authority_host}")),
        }
    } else {
        OriginPattern::Exact(Arc::from(typed))
    })
}
