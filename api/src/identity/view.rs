//! How the pages look: one column, light and dark, no scripts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ztna_proto::api::{
    ACCEPT_INVITATION_PATH, CLI_LOGIN_PATH, MAX_ORG_NAME, MAX_PASSWORD, MIN_PASSWORD, Me,
};
use ztna_proto::people::{RESET_PASSWORD_PATH, VERIFY_EMAIL_PATH};
use ztna_proto::tokens::{InvitationToken, MailToken};

use super::page::Checked;
use super::sso::Others;
use crate::orgs::{Offer, role_text};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1a1c20;--dim:#5a606b;--paper:#f4f5f7;--card:#fff;--line:#cfd3da;--accent:#1f5fbf;--on:#fff;--bad:#a3161d;--bad-bg:#fdecec}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaee;--dim:#a2a9b5;--paper:#14161a;--card:#1d2026;--line:#3a404a;--accent:#7aacf5;--on:#10131a;--bad:#ffb3b0;--bad-bg:#3a1719}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,sans-serif}
main{width:100%;max-width:24rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:2rem}
h1{font-size:1.25rem;line-height:1.3;margin:0 0 .75rem}
p{margin:0 0 1rem}
.dim{color:var(--dim);font-size:.9rem}
.bad{background:var(--bad-bg);color:var(--bad);border-radius:.5rem;padding:.6rem .8rem}
label{display:block;margin:0 0 .25rem;font-weight:600}
input{width:100%;font:inherit;padding:.55rem .7rem;margin:0 0 1rem;border:1px solid var(--line);border-radius:.5rem;background:var(--paper);color:var(--ink)}
button{width:100%;font:inherit;font-weight:600;padding:.6rem;margin:0 0 .6rem;border:1px solid var(--accent);border-radius:.5rem;background:var(--accent);color:var(--on);cursor:pointer}
a.button{display:block;text-align:center;text-decoration:none;font-weight:600;padding:.6rem;margin:0 0 .6rem;border:1px solid var(--accent);border-radius:.5rem;color:var(--accent)}
.or{text-align:center;color:var(--dim);margin:.25rem 0 .75rem}
button.plain{background:transparent;color:var(--accent)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
a{color:var(--accent)}
";

/// What every page has.
pub(super) struct Page {
    /// Names the page's style in its content security policy.
    pub(super) nonce: String,
}

impl Page {
    pub(super) fn new() -> Self {
        let nonce: [u8; 16] = rand::random();
        Self {
            nonce: BASE64URL.encode(nonce),
        }
    }

    pub(super) fn frame(&self, title: &str, content: &Markup) -> Markup {
        self.frame_leading(title, content, None)
    }

    /// A page that goes on to an address by itself.
    pub(super) fn frame_leading(
        &self,
        title: &str,
        content: &Markup,
        on_to: Option<&str>,
    ) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    @if let Some(url) = on_to { meta http-equiv="refresh" content={ "0; url=" (url) }; }
                    title { (title) " · ztna" }
                    style nonce=(self.nonce) { (PreEscaped(STYLE)) }
                }
                body { main { h1 { (title) } (content) } }
            }
        }
    }
}

/// What the sign-in page shows besides its form.
#[derive(Default)]
pub(super) struct SignIn<'a> {
    pub(super) email: &'a str,
    pub(super) fault: Option<&'a str>,
    pub(super) notice: Option<&'a str>,
    /// Whether strangers may make accounts.
    pub(super) sign_up: bool,
    /// Whether a forgotten password can be replaced by mail.
    pub(super) recovery: bool,
    /// Other ways to sign in.
    pub(super) others: Others,
}

/// Sign in, or sign up with the same fields.
pub(super) fn sign_in(page: &Page, request: &Checked, form: &SignIn<'_>) -> Markup {
    let content = html! {
        p.dim { "A computer asks to be connected by " code { "ztna login" } "." }
        (fault_of(form.fault))
        @if let Some(notice) = form.notice { p role="status" { (notice) } }
        form method="post" action=(CLI_LOGIN_PATH) {
            (hidden(request))
            label for="email" { "E-mail" }
            input id="email" name="email" type="email" autocomplete="username" required autofocus value=(form.email);
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password"
                required minlength=(MIN_PASSWORD) maxlength=(MAX_PASSWORD) aria-describedby="rule";
            label for="code" { "Code, if you have set up an authenticator" }
            input id="code" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false";
            button name="step" value="sign-in" { "Sign in" }
            @if form.sign_up { button.plain name="step" value="sign-up" { "Create an account" } }
            p.dim #rule { "A password has at least " (MIN_PASSWORD) " characters." }
        }
        (form.others.links(request))
        @if form.recovery { p.dim { a href=(RESET_PASSWORD_PATH) { "Forgotten your password?" } } }
    };
    page.frame("Sign in", &content)
}

/// The question before an address is confirmed.
pub(super) fn verify(page: &Page, token: &MailToken, fault: Option<&str>) -> Markup {
    let content = html! {
        p { "Confirm it with the password that you have chosen here." }
        (fault_of(fault))
        form method="post" action=(VERIFY_EMAIL_PATH) {
            input type="hidden" name="token" value=(token.expose());
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password"
                required autofocus maxlength=(MAX_PASSWORD);
            button { "Confirm" }
        }
    };
    page.frame("Is this your address?", &content)
}

/// Asks for the address whose password is forgotten.
pub(super) fn ask_for_reset(page: &Page, fault: Option<&str>) -> Markup {
    let content = html! {
        p { "A link to choose a new password is sent to your address." }
        (fault_of(fault))
        form method="post" action=(RESET_PASSWORD_PATH) {
            label for="email" { "E-mail" }
            input id="email" name="email" type="email" autocomplete="username" required autofocus;
            button { "Send the link" }
        }
    };
    page.frame("Forgotten your password?", &content)
}

/// Asks for a new password.
pub(super) fn reset(page: &Page, token: &MailToken, fault: Option<&str>) -> Markup {
    let content = html! {
        p { "Every session of the account ends with the old password." }
        (fault_of(fault))
        form method="post" action=(RESET_PASSWORD_PATH) {
            input type="hidden" name="token" value=(token.expose());
            label for="password" { "New password" }
            input id="password" name="password" type="password" autocomplete="new-password"
                required autofocus minlength=(MIN_PASSWORD) maxlength=(MAX_PASSWORD) aria-describedby="rule";
            button { "Change the password" }
            p.dim #rule { "A password has at least " (MIN_PASSWORD) " characters." }
        }
    };
    page.frame("Choose a new password", &content)
}

/// An invitation, and the form to accept it.
pub(super) fn join(
    page: &Page,
    token: &InvitationToken,
    offer: &Offer,
    fault: Option<&str>,
) -> Markup {
    let content = html! {
        p { "You are invited as " strong { (role_text(offer.role)) } ", with the address " strong { (offer.email) } "." }
        (fault_of(fault))
        form method="post" action=(ACCEPT_INVITATION_PATH) {
            input type="hidden" name="token" value=(token.expose());
            input type="hidden" name="username" autocomplete="username" value=(offer.email);
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password"
                required autofocus minlength=(MIN_PASSWORD) maxlength=(MAX_PASSWORD) aria-describedby="rule";
            label for="code" { "Code, if you have set up an authenticator" }
            input id="code" name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false";
            button name="step" value="sign-in" { "Sign in and join" }
            button.plain name="step" value="sign-up" { "Create an account and join" }
            p.dim #rule { "A password has at least " (MIN_PASSWORD) " characters." }
        }
    };
    page.frame(&format!("Join {}?", offer.org_name), &content)
}

/// Something is done.
pub(super) fn done(page: &Page, title: &str, text: &str) -> Markup {
    page.frame(title, &html! { p { (text) } })
}

/// The last question before the CLI gets its code.
pub(super) fn connect(page: &Page, request: &Checked, me: &Me, fault: Option<&str>) -> Markup {
    let content = html! {
        p { "You are signed in as " strong { (me.email) } "." }
        p.dim { "Go on only if you have just run " code { "ztna login" } " yourself." }
        (fault_of(fault))
        form method="post" action=(CLI_LOGIN_PATH) {
            (hidden(request))
            @if me.orgs.is_empty() {
                label for="org" { "Name of your new organisation" }
                input id="org" name="org" required maxlength=(MAX_ORG_NAME) autofocus;
            }
            button name="step" value="connect" { "Connect this computer" }
        }
        form method="post" action=(CLI_LOGIN_PATH) {
            (hidden(request))
            button.plain name="step" value="sign-out" { "Use another account" }
        }
    };
    page.frame("Connect this computer to your account?", &content)
}

pub(super) fn error(page: &Page, message: &str) -> Markup {
    page.frame("This did not work", &fault_of(Some(message)))
}

/// What somebody sees who opens the server's address.
pub(super) fn front(page: &Page) -> Markup {
    let content = html! {
        p { "This is the control plane of a ztna network: machines find each other here and talk "
            "to each other directly, encrypted end to end." }
        p { "To connect a computer, run " code { "ztna up" } " on it with this server's address and "
            "pin; both are in the server's log." }
        p.dim { "For programs: " a href="/api/openapi.json" { "API document" } ", "
            a href="/health" { "health" } "." }
    };
    page.frame("ztna", &content)
}

pub(super) fn hidden(request: &Checked) -> Markup {
    html! {
        input type="hidden" name="port" value=(request.port);
        input type="hidden" name="state" value=(request.state);
        input type="hidden" name="challenge" value=(request.challenge);
    }
}

pub(super) fn fault_of(message: Option<&str>) -> Markup {
    html! { @if let Some(message) = message { p.bad role="alert" { (message) } } }
}
