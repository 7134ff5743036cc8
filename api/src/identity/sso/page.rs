//! `/sign-in/…`: the way to a provider, and back.

use axum::extract::rejection::FormRejection;
use axum::extract::{self, Form};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};

use super::destination::Destination;
use super::enter::{Entered, enter, settle};
use super::fetch::words;
use super::flow::{self, Back, Browser, Need, Waiting};
use super::provider::{ProviderId, Vouched, unknown};
use super::view;
use crate::app::State;
use crate::http::{ApiError, ClientIp, Counted, Device, Path, refuse, same_origin};
use crate::identity::mfa::Factor;
use crate::identity::page::{Request, error_page, page, signed_in, told};
use crate::identity::sessions::Way;
use crate::identity::{accounts, mfa, sessions};

/// Where a person shows what is missing.
pub(super) const PROOF_PATH: &str = "/sign-in/proof";
/// Longest value that a provider sends back with the browser, in bytes.
const MAX_SENT: usize = 4096;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(sso))
        .routes(routes!(resume, prove))
        .routes(routes!(begin))
        .routes(routes!(callback))
}

/// Whose provider.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// An org's label, or an address of one of its domains.
    #[serde(default)]
    org: String,
}

/// Where the browser goes afterwards.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Afterwards {
    /// The path of a page here, of a dashboard's, in place of what the command line sends.
    return_to: Option<String>,
}

/// To the provider of an org; asks which org if none is named.
#[utoipa::path(get, path = "/sign-in/sso", tag = "pages", params(
    Whose, Afterwards, ("port" = Option<u16>, Query), ("state" = Option<String>, Query), ("challenge" = Option<String>, Query),
), responses(
    (status = 200, description = "A page that leads on."), (status = 400, description = "A page that says what is wrong."),
    (status = 401, description = "The provider cannot be used."), (status = 404, description = "There is no such org."),
    (status = 429, description = "Too many.")))]
async fn sso(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    headers: HeaderMap,
    extract::Query(whose): extract::Query<Whose>,
    extract::Query(afterwards): extract::Query<Afterwards>,
    extract::Query(request): extract::Query<Request>,
) -> Response {
    let destination = match Destination::of(afterwards.return_to.as_deref(), &request) {
        Ok(destination) => destination,
        Err(error) => return error_page(error),
    };
    let wanted = whose.org.trim().to_ascii_lowercase();
    if wanted.is_empty() {
        return page(StatusCode::OK, None, |p| {
            view::ask_org(p, &destination, "", None)
        });
    }
    let begun = async {
        spend(&state, ip).await?;
        let org = org_of(&state, &wanted).await?;
        start(&state, &headers, ProviderId::Org(org), destination.clone()).await
    };
    match begun.await {
        Ok((url, browser)) => {
            let host = words(url.host_str().unwrap_or_default());
            let text = format!("You sign in at {host}.");
            // Another site's page may lead here, but not through: whoever is there would be signed in to
            // what that page chose.
            let own = headers
                .get("sec-fetch-site")
                .is_some_and(|site| site == "same-origin");
            let response = page(StatusCode::OK, None, |p| {
                view::on_to(p, "On to your organisation", &text, url.as_str(), own)
            });
            with_browser(response, &browser)
        }
        Err(error) => {
            let (status, body) = told(error);
            page(status, None, |p| {
                view::ask_org(p, &destination, &wanted, Some(&body.message))
            })
        }
    }
}

/// The org that a label, or an address' domain, leads to.
async fn org_of(state: &State, wanted: &str) -> Result<OrgId, ApiError> {
    let wanted = named(wanted);
    find_org(state, &wanted).await?.ok_or_else(|| {
        refuse(
            ErrorCode::NotFound,
            format!(
                "{} leads to no organisation with a sign-in of its own. Ask your admin for the organisation's label.",
                words(&wanted)
            ),
        )
    })
}

/// The label, or the domain, of what somebody has typed.
pub(super) fn named(typed: &str) -> String {
    let typed = typed.trim();
    let name = typed.rsplit_once('@').map_or(typed, |(_, domain)| domain);
    name.to_ascii_lowercase()
}

/// The org with a provider of its own that a label or a proved domain leads to.
pub(super) async fn find_org(state: &State, name: &str) -> Result<Option<OrgId>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt("SELECT org_id FROM lookup_sso($1)", &[&name])
        .await?;
    Ok(row.map(|row| OrgId(row.get(0))))
}

/// To Google or GitHub.
#[utoipa::path(get, path = "/sign-in/{provider}", tag = "pages", params(
    ("provider" = String, Path), Afterwards, ("port" = Option<u16>, Query), ("state" = Option<String>, Query),
    ("challenge" = Option<String>, Query),
), responses(
    (status = 303, description = "On to the provider."), (status = 400, description = "A page that says what is wrong."),
    (status = 401, description = "The provider cannot be used."), (status = 404, description = "There is no such provider."),
    (status = 429, description = "Too many.")))]
async fn begin(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    headers: HeaderMap,
    Path(provider): Path<String>,
    extract::Query(afterwards): extract::Query<Afterwards>,
    extract::Query(request): extract::Query<Request>,
) -> Response {
    let begun = async {
        // An org's is gone to from the page that says so: another site's page may not send people there.
        let provider = match provider.parse()? {
            ProviderId::Org(_) => return Err(unknown()),
            provider => provider,
        };
        let destination = Destination::of(afterwards.return_to.as_deref(), &request)?;
        spend(&state, ip).await?;
        start(&state, &headers, provider, destination).await
    };
    match begun.await {
        Ok((url, browser)) => with_browser(Redirect::to(url.as_str()).into_response(), &browser),
        Err(error) => error_page(error),
    }
}

pub(super) async fn spend(state: &State, ip: std::net::IpAddr) -> Result<(), ApiError> {
    Counted::by_address(&*state.kv, "sign-ins with others", state.limits.sign_in, ip)
        .spend()
        .await
}

async fn start(
    state: &State,
    headers: &HeaderMap,
    provider: ProviderId,
    destination: Destination,
) -> Result<(reqwest::Url, Browser), ApiError> {
    let browser = Browser::of(headers).unwrap_or_default();
    let url = flow::begin(state, &browser, provider, destination).await?;
    Ok((url, browser))
}

fn with_browser(mut response: Response, browser: &Browser) -> Response {
    if let Some(cookie) = browser.cookie() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// What a provider sends back.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Sent {
    /// Tells the sign-in.
    #[serde(default)]
    state: String,
    /// To be redeemed at the provider.
    #[serde(default)]
    code: String,
    /// Who sends it (RFC 9207).
    #[serde(default)]
    iss: Option<String>,
    /// Why there is no code.
    #[serde(default)]
    error: Option<String>,
    /// The same for people.
    #[serde(default)]
    error_description: Option<String>,
}

impl Sent {
    fn back(self) -> Result<Back, String> {
        if let Some(error) = self.error {
            let more = self.error_description.unwrap_or_default();
            return Err(words(format!("it says {error} {more}").trim_end()));
        }
        if self.code.is_empty() || self.code.len() > MAX_SENT {
            return Err("it gave no code".to_owned());
        }
        Ok(Back {
            code: self.code,
            iss: self.iss,
        })
    }
}

/// Where a provider sends the browser back to. An org's has the org's id as its name.
#[utoipa::path(get, path = "/sign-in/{provider}/callback", tag = "pages", params(("provider" = String, Path), Sent),
    responses((status = 200, description = "A page that leads on."), (status = 401, description = "A page that says what is wrong."),
    (status = 403, description = "The person may not come in."), (status = 404, description = "There is no such provider."),
    (status = 409, description = "Somebody else was faster."), (status = 429, description = "Too many.")))]
async fn callback(
    extract::State(state): extract::State<State>,
    device: Device,
    headers: HeaderMap,
    Path(provider): Path<String>,
    extract::Query(sent): extract::Query<Sent>,
) -> Response {
    let returned = async {
        let provider: ProviderId = provider.parse()?;
        let known = sent.state.clone();
        let (vouched, destination, browser) =
            flow::finish(&state, &headers, provider, &known, sent.back()).await?;
        let entered = enter(&state, device.ip, &vouched, None).await?;
        let need = match entered {
            Entered::Link { email } => Need::Account { email },
            Entered::As(user) if mfa::wanted(&state, user).await? => Need::Code(user),
            Entered::As(user) => Need::Nothing(user),
        };
        let waiting = Waiting::keep(&state, &browser, vouched, destination, need).await?;
        Ok::<_, ApiError>(page(StatusCode::OK, None, |p| match waiting.need {
            Need::Nothing(_) => {
                let url = format!("{PROOF_PATH}?waiting={}", waiting.id);
                view::on_to(p, "You are signed in", "One moment.", &url, true)
            }
            Need::Account { .. } | Need::Code(_) => view::prove(p, &waiting, None),
        }))
    };
    returned.await.unwrap_or_else(error_page)
}

/// Begins the session: its cookie's header. All that was asked for was given.
async fn session(
    state: &State,
    user: UserId,
    factor: Factor,
    vouched: &Vouched,
    device: &Device,
) -> Result<Option<(header::HeaderName, http::HeaderValue)>, ApiError> {
    settle(state, vouched, user).await?;
    let vouch = vouched.provider.org().map(sessions::Vouch::now);
    let way = Way::Provider(vouched.provider.way(), factor);
    let session = sessions::begin(state, &sessions::Proof { user, way }, device, vouch).await?;
    let cookie = sessions::session_cookie(&session);
    Ok(cookie.map(|cookie| (header::SET_COOKIE, cookie)))
}

/// What is gone on with.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Resumed {
    /// Tells the sign-in.
    #[serde(default)]
    waiting: String,
}

/// Ends a sign-in that needs no more than the provider's word. Not at the callback: a browser that comes from
/// another site does not send the session that it holds, and another account's is not replaced unasked.
#[utoipa::path(get, path = "/sign-in/proof", tag = "pages", params(Resumed), responses(
    (status = 200, description = "Asks whether another account's session is to be replaced."),
    (status = 303, description = "On to the next step."), (status = 400, description = "The address is malformed."),
    (status = 401, description = "There is nothing to go on with."),
    (status = 403, description = "The account has a second factor since.")))]
async fn resume(
    extract::State(state): extract::State<State>,
    device: Device,
    headers: HeaderMap,
    extract::Query(resumed): extract::Query<Resumed>,
) -> Response {
    let resumed = async {
        let browser = Browser::of(&headers).ok_or_else(over)?;
        let waiting = Waiting::of(&state, &browser, &resumed.waiting).await?;
        let waiting = waiting.ok_or_else(over)?;
        let Need::Nothing(user) = waiting.need else {
            return Err(over());
        };
        let held = signed_in(&state, &headers).await?;
        if let Some((held, _)) = held.filter(|(held, _)| held.id != user) {
            let new = accounts::me(&state, user).await?;
            return Ok(page(StatusCode::OK, None, |p| {
                view::replace(p, &waiting, &held.email, &new.email)
            }));
        }
        complete(&state, &device, &browser, &waiting, Proof::default()).await
    };
    resumed.await.unwrap_or_else(error_page)
}

/// What a person shows besides.
#[derive(Default, Deserialize, ToSchema)]
struct Proof {
    /// What it is for.
    waiting: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    code: String,
}

/// Takes the password of the account that is to be linked, or the second factor's code.
#[utoipa::path(post, path = "/sign-in/proof", tag = "pages", responses(
    (status = 303, description = "On to the next step."), (status = 400, description = "A page that says what is wrong."),
    (status = 401, description = "Password or code are wrong, or there is nothing to prove."),
    (status = 403, description = "The code is missing, or another site's page calls."),
    (status = 409, description = "Somebody else was faster."), (status = 423, description = "The account is locked."),
    (status = 429, description = "Too many.")))]
async fn prove(
    extract::State(state): extract::State<State>,
    device: Device,
    headers: HeaderMap,
    form: Result<Form<Proof>, FormRejection>,
) -> Response {
    let found = async {
        same_origin(&headers)?;
        let Ok(Form(proof)) = form else {
            return Err(refuse(
                ErrorCode::ValidationError,
                "The form is incomplete. Begin the sign-in again.",
            ));
        };
        let browser = Browser::of(&headers).ok_or_else(over)?;
        let waiting = Waiting::of(&state, &browser, &proof.waiting).await?;
        Ok((waiting.ok_or_else(over)?, browser, proof))
    };
    let (waiting, browser, proof) = match found.await {
        Ok(found) => found,
        Err(error) => return error_page(error),
    };
    match complete(&state, &device, &browser, &waiting, proof).await {
        Ok(response) => response,
        Err(error) if matches!(waiting.need, Need::Nothing(_)) => error_page(error),
        Err(error) => {
            let (status, body) = told(error);
            page(status, None, |p| {
                view::prove(p, &waiting, Some(&body.message))
            })
        }
    }
}

/// Begins the session, if what was given is right, and goes on.
async fn complete(
    state: &State,
    device: &Device,
    browser: &Browser,
    waiting: &Waiting,
    proof: Proof,
) -> Result<Response, ApiError> {
    let (user, factor) = check(state, device, waiting, proof).await?;
    if !waiting.end(state, browser).await? {
        return Err(over());
    }
    let cookie = session(state, user, factor, &waiting.vouched, device).await?;
    let mut response = Redirect::to(&waiting.destination.here()).into_response();
    response.headers_mut().extend(cookie);
    Ok(response)
}

fn over() -> ApiError {
    refuse(
        ErrorCode::Unauthorized,
        "This sign-in was finished before, or its 10 minutes are over. Begin it again.",
    )
}

/// Whose account it is, if what was given is right.
async fn check(
    state: &State,
    device: &Device,
    waiting: &Waiting,
    proof: Proof,
) -> Result<(UserId, Factor), ApiError> {
    let code = Some(proof.code.as_str());
    match &waiting.need {
        // Refuses if there is a second factor since.
        Need::Nothing(user) => Ok((*user, mfa::check(state, *user, None).await?)),
        Need::Code(user) => {
            let factor = accounts::check_code(state, device.ip, *user, code).await?;
            Ok((*user, factor))
        }
        Need::Account { email } => {
            let proved =
                accounts::check_credentials(state, device.ip, email, proof.password, code).await?;
            match enter(state, device.ip, &waiting.vouched, Some(proved.user)).await? {
                Entered::As(user) if user == proved.user => Ok((user, proved.factor())),
                Entered::As(_) | Entered::Link { .. } => Err(refuse(
                    ErrorCode::Conflict,
                    "The account was linked to somebody else meanwhile. Begin the sign-in again.",
                )),
            }
        }
    }
}
