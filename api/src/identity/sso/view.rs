//! How the pages look on the way to a provider and back.

use maud::{Markup, html};
use ztna_proto::api::MAX_PASSWORD;
use ztna_proto::people::RESET_PASSWORD_PATH;
use ztna_proto::sso::SIGN_IN_PATH;

use super::destination::Destination;
use super::flow::{Need, Waiting};
use super::page::PROOF_PATH;
use crate::app::State;
use crate::identity::page::Checked;
use crate::identity::view::{Page, fault_of};

/// Which ways the sign-in page offers besides the password.
#[derive(Clone, Copy, Default)]
pub(in crate::identity) struct Others {
    google: bool,
    github: bool,
}

/// The ways that there are here.
pub(in crate::identity) fn others(state: &State) -> Others {
    Others {
        google: state.providers.has_google(),
        github: state.providers.has_github(),
    }
}

impl Others {
    /// Links, and no forms: what a form leads to, the page's policy bounds to ourselves.
    pub(in crate::identity) fn links(self, request: &Checked) -> Markup {
        let link = |provider: &str| format!("{SIGN_IN_PATH}/{provider}?{}", request.query());
        html! {
            p.or { "or" }
            @if self.google { a.button href=(link("google")) { "Continue with Google" } }
            @if self.github { a.button href=(link("github")) { "Continue with GitHub" } }
            a.button href=(link("sso")) { "Continue with SSO" }
        }
    }
}

/// Asks whose provider it is.
pub(super) fn ask_org(
    page: &Page,
    destination: &Destination,
    org: &str,
    fault: Option<&str>,
) -> Markup {
    let content = html! {
        p { "Sign in where you sign in to everything else of your organisation." }
        (fault_of(fault))
        form method="get" action={ (SIGN_IN_PATH) "/sso" } {
            (destination.hidden())
            label for="org" { "Your e-mail address, or your organisation's label" }
            input id="org" name="org" required autofocus autocapitalize="none" spellcheck="false" value=(org);
            button { "Continue" }
        }
    };
    page.frame("Sign in with SSO", &content)
}

/// Leads on, and sends the browser there `by_itself` or not. A form's redirection would fall under the page's policy, and what another
/// site's redirection leads to gets no strict cookie.
pub(super) fn on_to(page: &Page, title: &str, text: &str, url: &str, by_itself: bool) -> Markup {
    page.frame_leading(
        title,
        &html! { p { (text) } p { a.button href=(url) { "Go on" } } },
        by_itself.then_some(url),
    )
}

/// Asks before the session of another account is replaced.
pub(super) fn replace(page: &Page, waiting: &Waiting, held: &str, new: &str) -> Markup {
    let content = html! {
        p { "You are signed in as " strong { (held) } " here." }
        p.dim { "Go on only if the other account is yours too, and you have just signed in to it." }
        form method="post" action=(PROOF_PATH) {
            input type="hidden" name="waiting" value=(waiting.id);
            button { "Sign in as " (new) }
        }
        a.button href=(waiting.destination.here()) { "Stay " (held) }
    };
    page.frame("Use another account?", &content)
}

/// Asks for what is missing.
pub(super) fn prove(page: &Page, waiting: &Waiting, fault: Option<&str>) -> Markup {
    let provider = waiting.vouched.provider.name();
    let (title, text) = match &waiting.need {
        Need::Account { email } => (
            "Is this account yours?",
            html! {
                p { "There is an account for " strong { (email) } ". To sign in to it with " (provider)
                    " from now on, give its password once." }
                p.dim { "Whoever decides there who you are can then sign in to this account, and reaches what "
                    "it reaches." }
            },
        ),
        Need::Code(_) | Need::Nothing(_) => (
            "One more step",
            html! { p { "Your account has a second factor." } },
        ),
    };
    let content = html! {
        (text)
        (fault_of(fault))
        form method="post" action=(PROOF_PATH) {
            input type="hidden" name="waiting" value=(waiting.id);
            @if let Need::Account { email } = &waiting.need {
                input type="hidden" name="username" autocomplete="username" value=(email);
                label for="password" { "Password" }
                input id="password" name="password" type="password" autocomplete="current-password"
                    required autofocus maxlength=(MAX_PASSWORD);
                label for="code" { "Code, if you have set up an authenticator" }
            } @else {
                label for="code" { "Code of your authenticator, or a backup code" }
            }
            input id="code" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false";
            button { "Sign in" }
        }
        @if matches!(waiting.need, Need::Account { .. }) {
            p.dim { a href=(RESET_PASSWORD_PATH) { "Forgotten, or never chosen, a password?" } }
        }
    };
    page.frame(title, &content)
}
