//! What a route serves by itself, and what it does to the bodies of answers: `files`, `compress`.

use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;

use super::Cx;
use super::fields::{Fault, Unique};
use crate::config::defaults;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{Coding, Compress, Files, Level, TypePattern};
use crate::config::raw;
use crate::config::suggest::list;
use crate::config::units::ByteSize;

impl Cx<'_> {
    pub(super) fn files(self, raw: raw::Files, at: At<'_>) -> Files {
        let raw::Files {
            root,
            index,
            fallback,
            precompressed,
            cache_control,
            hidden,
            listing,
        } = raw;
        if root.0.is_none() {
            let hint = "add `root: FOLDER`, the folder that holds them";
            self.missing(at, "root", "`files` without a `root`", hint);
        }
        // The one word there is: a listing would show what nobody linked to.
        let _never: Option<()> = self.choice(at, "listing", &listing, &[("never", ())]);
        let index = index
            .0
            .and_then(|typed| self.settle(at.field("index"), index_name(&typed)));
        let fallback = fallback
            .0
            .and_then(|typed| self.settle(at.field("fallback"), fallback_path(&typed)));
        let cache_control = cache_control
            .0
            .and_then(|typed| self.settle(at.field("cache_control"), field_value(&typed)));
        Files {
            root: root
                .0
                .map(|typed| self.folder(at.field("root"), &typed))
                .unwrap_or_default(),
            index: index.unwrap_or_else(|| Arc::from(defaults::INDEX)),
            fallback,
            precompressed: self.codings(precompressed, at, "precompressed"),
            cache_control,
            hidden: hidden.0.unwrap_or(false),
        }
    }

    /// The path of a folder that can be read.
    fn folder(self, at: At<'_>, typed: &str) -> std::path::PathBuf {
        let path = self.path(typed);
        if let Err(error) = std::fs::read_dir(&path) {
            let from = if self.folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                self.folder
            };
            self.error(
                at.span(),
                format!("cannot read the folder `{}`: {error}", quotable(typed)),
                format!(
                    "relative paths start at the folder of the config file, `{}`",
                    from.display()
                ),
            );
        }
        path
    }

    pub(super) fn compress(self, raw: raw::Compress, at: At<'_>) -> Compress {
        let raw::Compress {
            algorithms,
            min_size,
            types,
            level,
        } = raw;
        let levels = [
            ("fast", Level::Fast),
            ("balanced", Level::Balanced),
            ("small", Level::Small),
        ];
        if algorithms.0.as_ref().is_some_and(Vec::is_empty) {
            let hint = "leave it out for zstd, br and gzip, or remove `compress`";
            self.error(at.field("algorithms").span(), "`algorithms` is empty", hint);
        }
        let mut algorithms = self.codings(algorithms, at, "algorithms");
        if algorithms.is_empty() {
            algorithms = Coding::ALL.to_vec();
        }
        Compress {
            algorithms,
            min_size: self
                .size(
                    at,
                    "min_size",
                    &min_size,
                    &(ByteSize(0)..=ByteSize(1 << 30)),
                )
                .unwrap_or(defaults::COMPRESS_MIN_SIZE),
            types: self.types(types, at.field("types")),
            level: self
                .choice(at, "level", &level, &levels)
                .unwrap_or(Level::Balanced),
        }
    }

    fn codings(self, raw: raw::List<String>, at: At<'_>, key: &str) -> Vec<Coding> {
        let mut unique = Unique::new();
        let mut codings = Vec::new();
        for (index, item) in raw.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let at = at.field(key).item(index);
            let Some(coding) = self.settle(at, coding(&typed)) else {
                continue;
            };
            unique.check(self, at.span(), "the coding", coding.token());
            codings.push(coding);
        }
        codings
    }

    fn types(self, raw: raw::List<String>, at: At<'_>) -> Vec<TypePattern> {
        let Some(items) = raw.0 else {
            return defaults::COMPRESS_TYPES
                .iter()
                .filter_map(|known| type_pattern(known).ok())
                .collect();
        };
        if items.is_empty() {
            let hint =
                "leave it out for the usual types, or name some: `[text/*, application/json]`";
            self.error(at.span(), "`types` is empty", hint);
        }
        items
            .into_iter()
            .enumerate()
            .filter_map(|(index, item)| self.settle(at.item(index), type_pattern(&item.0?)))
            .collect()
    }
}

fn coding(typed: &str) -> Result<Coding, Fault> {
    let meant = Coding::ALL.into_iter().find(|known| known.token() == typed);
    meant.ok_or_else(|| {
        let hint = match typed {
            "brotli" => "did you mean `br`?".to_owned(),
            "gz" => "did you mean `gzip`?".to_owned(),
            "zst" => "did you mean `zstd`?".to_owned(),
            _ => {
                let names: Vec<&str> = Coding::ALL.iter().map(|known| known.token()).collect();
                format!("the choices are {}", list(&names))
            }
        };
        Fault::new(format!("`{}` is not a coding", quotable(typed)), hint)
    })
}

fn type_pattern(typed: &str) -> Result<TypePattern, Fault> {
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let lower = typed.to_ascii_lowercase();
    if let Some(suffix) = lower.strip_prefix('*').filter(|rest| rest.starts_with('+')) {
        if token(suffix) && suffix.len() > 1 {
            return Ok(TypePattern::Suffix(suffix.into()));
        }
    } else if let Some((kind, name)) = lower.split_once('/')
        && token(kind)
    {
        if name == "*" {
            return Ok(TypePattern::Prefix(format!("{kind}/").into()));
        }
        if token(name) {
            return Ok(TypePattern::Exact(lower.into()));
        }
    }
    Err(Fault::new(
        format!("`{}` is not a media type", quotable(typed)),
        "write `application/json`, `text/*` for a whole kind, or `*+json` for a suffix",
    ))
}

/// What a file can be called in a folder; no way to another one.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn index_name(typed: &str) -> Result<Arc<str>, Fault> {
    if is_name(typed) {
        return Ok(Arc::from(typed));
    }
    Err(Fault::new(
        format!("`{}` is not the name of a file", quotable(typed)),
        "write a name without `/`, such as `index.html`",
    ))
}

fn fallback_path(typed: &str) -> Result<Arc<str>, Fault> {
    match typed.strip_prefix('/') {
        Some(below) if below.split('/').all(is_name) => Ok(Arc::from(below)),
        _ => Err(Fault::new(
            format!(
                "`{}` is not the path of a file below `root`",
                quotable(typed)
            ),
            "write it as a client would ask for it, such as `/index.html`",
        )),
    }
}

fn field_value(typed: &str) -> Result<HeaderValue, Fault> {
    let value = HeaderValue::from_str(typed).ok();
    value
        .filter(|_| !typed.is_empty() && typed.trim() == typed)
        .ok_or_else(|| {
            Fault::new(
                format!("no header can have the value `{}`", quotable(typed)),
                "such as `public, max-age=3600`",
            )
        })
}
