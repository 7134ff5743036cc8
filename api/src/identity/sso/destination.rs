//! Where a sign-in leads to when it is done: to the command line that waits, or back into the dashboard.

use maud::{Markup, html};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use ztna_proto::error::ErrorCode;
use ztna_proto::sso::MAX_RETURN_TO;

use crate::http::{ApiError, refuse};
use crate::identity::page::{Checked, Request};
use crate::identity::view;

/// Pages never stand here. A sign-in that led into another one would sign people in to what a link chose.
const NO_PAGES: [&str; 3] = ["/api", "/sign-in", "/derp"];

/// A destination that was checked.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Destination {
    Cli(Checked),
    /// A path of this server's own, as browsers understand it.
    Dashboard(String),
}

impl Destination {
    /// What the parameters ask for.
    pub(super) fn of(return_to: Option<&str>, request: &Request) -> Result<Self, ApiError> {
        match return_to {
            Some(path) => local_path(path).map(Self::Dashboard).ok_or_else(|| {
                refuse(
                    ErrorCode::ValidationError,
                    "`return_to` is not the path of a page of this server. Begin the sign-in again.",
                )
            }),
            None => request.check().map(Self::Cli),
        }
    }

    /// Where the browser goes when the sign-in is done.
    pub(super) fn here(&self) -> String {
        match self {
            Self::Cli(request) => request.here(),
            Self::Dashboard(path) => path.clone(),
        }
    }

    /// The same for the next form.
    pub(super) fn hidden(&self) -> Markup {
        match self {
            Self::Cli(request) => view::hidden(request),
            Self::Dashboard(path) => html! { input type="hidden" name="return_to" value=(path); },
        }
    }
}

/// The path as a browser reads it, if it leads to a page of the server that it came from and nowhere else.
fn local_path(text: &str) -> Option<String> {
    let printable = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if text.len() > MAX_RETURN_TO || !printable || !text.starts_with('/') {
        return None;
    }
    // Browsers take dots and empty parts out of paths first; what counts is what is left.
    let base = Url::parse("https://here.invalid/").ok()?;
    let url = base.join(text).ok()?;
    let path = url.path();
    let below = |folder: &str| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if url.origin() != base.origin() || path.starts_with("//") || NO_PAGES.into_iter().any(below) {
        return None;
    }
    let query = url
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    let fragment = url
        .fragment()
        .map_or_else(String::new, |fragment| format!("#{fragment}"));
    Some(format!("{path}{query}{fragment}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_server_are_returned_to() {
        for (asked, path) in [
            ("/", "/"),
            ("/machines", "/machines"),
            (
                "/machines?tag=tag:web&x=%2F#top",
                "/machines?tag=tag:web&x=%2F#top",
            ),
            ("/a/./b/../c", "/a/c"),
            ("/signing", "/signing"),
            ("/cli-login?port=1", "/cli-login?port=1"),
        ] {
            assert_eq!(local_path(asked).as_deref(), Some(path), "{asked}");
        }
        let long = format!("/{}", "a".repeat(MAX_RETURN_TO));
        for asked in [
            "",
            "machines",
            "https://evil.example/",
            "//evil.example",
            "///evil.example",
            "/.//evil.example",
            "/x/..//evil.example",
            "/%2e//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\\tevil",
            "/\t/evil.example",
            "/a b",
            "/a\r\nset-cookie: x",
            "/\u{e4}",
            "javascript:alert(1)",
            "@evil.example",
            "/sign-in/sso?org=evil",
            "/x/../sign-in/google",
            "/%2e%2e/sign-in",
            "/api/auth/me",
            "/derp",
            long.as_str(),
        ] {
            assert_eq!(local_path(asked), None, "{asked}");
        }
    }
}
