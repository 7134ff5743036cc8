//! Who calls.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use cookie::Cookie;
use http::request::Parts;
use http::{Extensions, HeaderMap, header};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, OrgId, SessionId, UserId};
use ztna_proto::tokens::{ApiKey, MachineToken, TokenHash};
use ztna_tls::ClientAddr;

use super::answer::{ApiError, refuse};
use super::call::{self, Actor};
use crate::app::State;
use crate::{api_keys, identity, machines};

/// Longest name that a client gives itself (`User-Agent`), in characters; the rest is cut off.
const MAX_CLIENT: usize = 256;

/// The text of the `Authorization: Bearer` header.
pub(crate) struct Bearer(pub(crate) String);

impl FromRequestParts<State> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, ApiError> {
        bearer(&parts.headers)
            .map(|text| Self(text.to_owned()))
            .ok_or_else(no_credential)
    }
}

fn no_credential() -> ApiError {
    refuse(
        ErrorCode::Unauthorized,
        "the call carries no credential; send `Authorization: Bearer …`",
    )
}

impl OptionalFromRequestParts<State> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Option<Self>, ApiError> {
        Ok(bearer(&parts.headers).map(|text| Self(text.to_owned())))
    }
}

/// The credential of the `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| credential.trim())
        .filter(|credential| !credential.is_empty())
}

/// A person's session, by access token. No API key gets here.
#[derive(Clone, Copy)]
pub(crate) struct SignedIn {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    /// The org whose provider vouched for the session, if one did.
    pub(crate) vouched_by: Option<OrgId>,
}

impl FromRequestParts<State> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let Bearer(token) =
            <Bearer as FromRequestParts<State>>::from_request_parts(parts, state).await?;
        let Some(access) = state.keys.verify_access(&token) else {
            return Err(refuse(
                ErrorCode::Unauthorized,
                "the access token is not valid or its 15 minutes are over; refresh the session or sign in again",
            ));
        };
        call::act_as(Actor::User(access.user));
        let caller = Self {
            user: access.user,
            session: access.session,
            vouched_by: access.vouched_by,
        };
        identity::admit(state, parts, &caller).await?;
        Ok(caller)
    }
}

impl OptionalFromRequestParts<State> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &State,
    ) -> Result<Option<Self>, ApiError> {
        if bearer(&parts.headers).is_none() {
            return Ok(None);
        }
        <Self as FromRequestParts<State>>::from_request_parts(parts, state)
            .await
            .map(Some)
    }
}

/// A person, by access token, or by an API key as far as that reaches.
#[derive(Clone, Copy)]
pub(crate) struct User(pub(crate) UserId);

impl FromRequestParts<State> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        if let Some(key) = bearer(&parts.headers).and_then(|text| text.parse().ok()) {
            return api_keys::authenticate(state, parts, &key).await.map(Self);
        }
        let signed_in =
            <SignedIn as FromRequestParts<State>>::from_request_parts(parts, state).await?;
        Ok(Self(signed_in.user))
    }
}

/// A person as in [`User`], and who speaks for them.
#[derive(Clone, Copy)]
pub(crate) struct Person {
    pub(crate) user: UserId,
    /// The person; else an API key.
    pub(crate) signed_in: bool,
}

impl FromRequestParts<State> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let key = bearer(&parts.headers).and_then(|text| text.parse::<ApiKey>().ok());
        let User(user) = User::from_request_parts(parts, state).await?;
        Ok(Self {
            user,
            signed_in: key.is_none(),
        })
    }
}

/// A machine, by machine token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) org: OrgId,
    pub(crate) id: MachineId,
}

impl FromRequestParts<State> for Machine {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let token = machine_token(&parts.headers)?;
        let machine = machines::authenticate(state, &token).await?;
        call::act_as(Actor::Machine(machine.id));
        Ok(machine)
    }
}

/// A machine, by machine token, without asking the database about one that is known. For calls that come
/// often, and that make sure by themselves of what must not rest on what was so a moment ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownMachine {
    pub(crate) machine: Machine,
    /// What it has shown.
    pub(crate) token: TokenHash,
}

impl FromRequestParts<State> for KnownMachine {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let token = machine_token(&parts.headers)?;
        let machine = machines::recognise(state, &token).await?;
        call::act_as(Actor::Machine(machine.id));
        Ok(Self {
            machine,
            token: token.hash(),
        })
    }
}

fn machine_token(headers: &HeaderMap) -> Result<MachineToken, ApiError> {
    let text = bearer(headers).ok_or_else(no_credential)?;
    text.parse().map_err(|_| machines::unknown_token())
}

/// The address that a call comes from.
#[derive(Clone, Copy)]
pub(crate) struct ClientIp(pub(crate) IpAddr);

impl FromRequestParts<State> for ClientIp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        client_ip(&parts.headers, &parts.extensions, state.trusted_proxies)
            .map(Self)
            .ok_or_else(|| ApiError::Internal("the listener names no peer".to_owned()))
    }
}

/// Where a session is asked for, as people recognise it.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) ip: IpAddr,
    /// What the client calls itself.
    pub(crate) client: String,
}

impl FromRequestParts<State> for Device {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let ClientIp(ip) = ClientIp::from_request_parts(parts, state).await?;
        let client = client_name(&parts.headers);
        Ok(Self { ip, client })
    }
}

/// The address that a call comes from. `None`: the listener names no peer.
pub(super) fn client_ip(
    headers: &HeaderMap,
    extensions: &Extensions,
    trusted_proxies: usize,
) -> Option<IpAddr> {
    let ClientAddr(peer) = extensions.get()?;
    let forwarded = forwarded_for(headers, trusted_proxies);
    Some(forwarded.unwrap_or(peer.ip()).to_canonical())
}

/// What the client calls itself.
pub(super) fn client_name(headers: &HeaderMap) -> String {
    let client = headers.get(header::USER_AGENT);
    let client = client.and_then(|value| value.to_str().ok());
    let client = client.unwrap_or_default().chars().take(MAX_CLIENT);
    client.collect()
}

/// The address that the outermost of our `proxies` saw. What stands before it in the header, the
/// client may have written itself.
fn forwarded_for(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let index = proxies.checked_sub(1)?;
    let values = headers.get_all("x-forwarded-for");
    let list: Vec<&str> = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    list.iter().rev().nth(index)?.trim().parse().ok()
}

/// A cookie's value.
pub(crate) fn cookie_value(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .flatten()
        .find(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned())
}

/// Whether a browser calls: those send fetch metadata, and `Origin` with every POST.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// Checks that a call of a browser comes from our own pages.
///
/// # Errors
/// `CSRF_REJECTED`.
pub(crate) fn same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = match (text("origin"), text("sec-fetch-site")) {
        (Some(origin), _) => {
            let host = text("host").unwrap_or_default();
            let origin = origin.split_once("://").map_or("", |(_, host)| host);
            !host.is_empty() && origin.eq_ignore_ascii_case(host)
        }
        (None, Some(site)) => site == "same-origin",
        (None, None) => false,
    };
    if own {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::CsrfRejected,
        "the call comes from another site's page; open the control plane's own page and try again",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn forwarded_addresses_are_believed_as_far_as_our_proxies_wrote_them() {
        let forged = headers(&[
            ("x-forwarded-for", "203.0.113.9, 198.51.100.7"),
            ("x-forwarded-for", "192.0.2.5"),
        ]);
        let cases = [
            (0, None),
            (1, Some("192.0.2.5")),
            (2, Some("198.51.100.7")),
            (3, Some("203.0.113.9")),
            (4, None),
        ];
        for (proxies, address) in cases {
            let expected = address.map(|text| text.parse().unwrap());
            assert_eq!(forwarded_for(&forged, proxies), expected, "{proxies}");
        }
    }

    #[test]
    fn only_our_own_pages_pass() {
        let cases: &[(&[(&str, &str)], bool)] = &[
            (
                &[
                    ("origin", "https://a.example:8443"),
                    ("host", "a.example:8443"),
                ],
                true,
            ),
            (
                &[("origin", "https://b.example"), ("host", "a.example")],
                false,
            ),
            (
                &[
                    ("origin", "https://a.example.b.example"),
                    ("host", "a.example"),
                ],
                false,
            ),
            (&[("origin", "null"), ("host", "a.example")], false),
            (
                &[("host", "a.example"), ("sec-fetch-site", "same-origin")],
                true,
            ),
            (
                &[("host", "a.example"), ("sec-fetch-site", "same-site")],
                false,
            ),
            (&[("host", "a.example")], false),
            (&[("origin", "https://")], false),
        ];
        for (list, own) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in *list {
                map.append(
                    http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.parse().unwrap(),
                );
            }
            assert_eq!(same_origin(&map).is_ok(), *own, "{list:?}");
        }
    }

    #[test]
    fn bearers_and_cookies_are_found() {
        let map = headers(&[
            ("authorization", "bearer  abc "),
            ("cookie", "a=1; __Host-refresh_token=xyz"),
        ]);
        assert_eq!(bearer(&map), Some("abc"));
        assert_eq!(
            cookie_value(&map, "__Host-refresh_token").as_deref(),
            Some("xyz")
        );
        assert_eq!(cookie_value(&map, "b"), None);
        assert_eq!(bearer(&headers(&[("authorization", "Basic abc")])), None);
        assert_eq!(bearer(&headers(&[("authorization", "Bearer ")])), None);
    }
}
