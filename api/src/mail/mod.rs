//! Letters to people: confirm an address, choose a new password, come into an org.
//!
//! A letter goes into a queue and one task delivers it, so that no answer tells by the time it takes
//! whether a letter was sent. The queue is memory: what a restart loses, its reader asks for again.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport, Message, Tokio1Executor};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use ztna_proto::api::ACCEPT_INVITATION_PATH;
use ztna_proto::people::{RESET_PASSWORD_PATH, VERIFY_EMAIL_PATH};
use ztna_proto::tokens::{InvitationToken, MailToken};

/// Letters that wait for delivery, at most; more are dropped.
const QUEUE: usize = 1000;
/// A letter is tried so often.
const TRIES: u32 = 3;
/// Pause after a failed try; twice as long after the next.
const PAUSE: Duration = Duration::from_secs(2);
/// A server answers each step of a delivery within this time.
const SMTP_TIMEOUT: Duration = Duration::from_secs(10);

/// How letters are sent.
#[derive(Clone, Debug)]
pub struct MailConfig {
    /// `smtp://[user:password@]host[:port][?tls=required]`, `smtps://…`, or `file:///folder`, which
    /// letters are written into instead of being sent.
    pub url: String,
    /// Sender, as in `ztna <noreply@example.com>`.
    pub from: String,
    /// What links start with, as in `https://ztna.example.com`.
    pub public_url: String,
}

/// Letters cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The URL is no such URL.
    #[error("--mail-url is not smtp://…, smtps://… or file:///folder: {0}")]
    Url(String),
    /// The sender is no address.
    #[error("--mail-from is not an address: {0}")]
    From(lettre::address::AddressError),
    /// The folder cannot be used.
    #[error("cannot make the folder for mail, {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a letter is about.
pub(crate) enum Letter {
    /// Confirm the address of a new account.
    Confirm(MailToken),
    /// Somebody signed up with an address that has an account.
    Exists,
    /// Choose a new password.
    Reset(MailToken),
    /// Come into an org.
    Invitation {
        org_name: String,
        token: InvitationToken,
    },
    /// A provider's word opens the account from now on.
    Linked {
        /// As people call it.
        provider: &'static str,
    },
    /// A provider's word opens the account no more.
    Unlinked {
        /// As people call it.
        provider: &'static str,
    },
    /// An owner of an org has taken the second factor off.
    SecondFactorGone { org_name: String },
}

/// Takes letters.
pub(crate) struct Mailer {
    queue: mpsc::Sender<Message>,
    from: Mailbox,
    public_url: String,
}

enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Folder(PathBuf),
}

impl Mailer {
    /// Starts the task that delivers.
    ///
    /// # Errors
    /// The configuration is malformed. Whether the server takes mail shows with the first letter.
    pub(crate) fn start(
        config: &MailConfig,
        stopping: CancellationToken,
    ) -> Result<Self, MailError> {
        let way = Way::new(&config.url)?;
        let from = config.from.parse().map_err(MailError::From)?;
        let (queue, letters) = mpsc::channel(QUEUE);
        tokio::spawn(deliver(way, letters, stopping));
        Ok(Self {
            queue,
            from,
            public_url: config.public_url.trim_end_matches('/').to_owned(),
        })
    }

    /// Sends a letter, some time.
    pub(crate) fn send(&self, to: &str, letter: &Letter) {
        let to = match to.parse() {
            Ok(to) => Mailbox::new(None, to),
            // Sign-up takes a few addresses that mail cannot be sent to.
            Err(error) => return tracing::debug!(%error, "a letter could not be addressed"),
        };
        let (subject, text) = self.write(letter);
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .message_id(None)
            .body(text);
        match message {
            Ok(message) => {
                if self.queue.try_send(message).is_err() {
                    tracing::warn!("a letter was dropped: {QUEUE} wait for delivery");
                }
            }
            Err(error) => tracing::error!(%error, "a letter could not be written"),
        }
    }

    fn write(&self, letter: &Letter) -> (&'static str, String) {
        let base = &self.public_url;
        match letter {
            Letter::Confirm(token) => (
                "Confirm your e-mail address",
                format!(
                    "Somebody, hopefully you, made an account at {base} with this address.\n\n\
                     To confirm it, open this within 24 hours:\n\n\
                     {base}{VERIFY_EMAIL_PATH}?token={}\n\n\
                     If it was not you, do nothing: without this step nobody can use the account.\n",
                    token.expose()
                ),
            ),
            Letter::Exists => (
                "You have an account already",
                format!(
                    "Somebody, hopefully you, tried to make an account at {base} with this address, \
                     which has one already. Nothing was changed.\n\n\
                     If you have forgotten your password, choose a new one here:\n\n\
                     {base}{RESET_PASSWORD_PATH}\n"
                ),
            ),
            Letter::Reset(token) => (
                "Choose a new password",
                format!(
                    "Somebody, hopefully you, asked for a new password of your account at {base}.\n\n\
                     To choose one, open this within an hour:\n\n\
                     {base}{RESET_PASSWORD_PATH}?token={}\n\n\
                     If it was not you, do nothing: your password stays as it is.\n",
                    token.expose()
                ),
            ),
            Letter::Invitation { org_name, token } => (
                "You are invited",
                format!(
                    "You are invited into the network of \"{org_name}\" at {base}.\n\n\
                     To join, open this within 7 days:\n\n\
                     {base}{ACCEPT_INVITATION_PATH}?token={}\n\n\
                     If you do not know what this is about, do nothing.\n",
                    token.expose()
                ),
            ),
            Letter::Linked { provider } => (
                "A new way to sign in",
                format!(
                    "From now on {provider} can sign you in to your account at {base}.\n\n\
                     If it was not you who linked it, choose a new password here, which ends this way and \
                     all your sessions:\n\n\
                     {base}{RESET_PASSWORD_PATH}\n"
                ),
            ),
            Letter::Unlinked { provider } => (
                "A way to sign in was ended",
                format!(
                    "{provider} can no longer sign you in to your account at {base}, and your other sessions have \
                     ended.\n\n\
                     If it was not you who ended it, somebody knows your password. Choose a new one here:\n\n\
                     {base}{RESET_PASSWORD_PATH}\n"
                ),
            ),
            Letter::SecondFactorGone { org_name } => (
                "Your second factor was taken off",
                format!(
                    "An owner of \"{org_name}\" has taken the second factor of your account at {base} off, \
                     and all your sessions have ended.\n\n\
                     If you have asked for this, sign in and set up a new one. If not, choose a new password \
                     here, and ask that owner:\n\n\
                     {base}{RESET_PASSWORD_PATH}\n"
                ),
            ),
        }
    }
}

impl Way {
    fn new(url: &str) -> Result<Self, MailError> {
        if let Some(folder) = url.strip_prefix("file://") {
            let path = PathBuf::from(folder);
            return match std::fs::create_dir_all(&path) {
                Ok(()) => Ok(Self::Folder(path)),
                Err(source) => Err(MailError::Folder { path, source }),
            };
        }
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|error| MailError::Url(error.to_string()))?
            .timeout(Some(SMTP_TIMEOUT));
        Ok(Self::Smtp(server.build()))
    }

    /// Whether a failure will stay one.
    async fn send(&self, message: &Message) -> Result<(), (String, bool)> {
        match self {
            Self::Smtp(server) => match server.send(message.clone()).await {
                Ok(_) => Ok(()),
                Err(error) => Err((error.to_string(), error.is_permanent())),
            },
            Self::Folder(folder) => {
                write_down(folder, message).map_err(|error| (error.to_string(), true))
            }
        }
    }
}

/// Letters hold tokens, so they are private; a name appears when its file is whole.
fn write_down(folder: &Path, message: &Message) -> std::io::Result<()> {
    let name = Uuid::now_v7();
    let aside = folder.join(format!(".{name}"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    std::io::Write::write_all(&mut file, &message.formatted())?;
    std::fs::rename(aside, folder.join(format!("{name}.eml")))
}

async fn deliver(way: Way, mut letters: mpsc::Receiver<Message>, stopping: CancellationToken) {
    loop {
        let letter = tokio::select! {
            () = stopping.cancelled() => return,
            letter = letters.recv() => letter,
        };
        let Some(letter) = letter else { return };
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            let Err((error, permanent)) = way.send(&letter).await else {
                break;
            };
            if permanent || attempt == TRIES {
                tracing::warn!(
                    error,
                    attempt,
                    "a letter could not be delivered and is given up"
                );
                break;
            }
            tracing::debug!(
                error,
                attempt,
                "a letter could not be delivered; trying again"
            );
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => pause *= 2,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn malformed_configurations_are_refused() {
        let start = |url: &str, from: &str| {
            let config = MailConfig {
                url: url.to_owned(),
                from: from.to_owned(),
                public_url: "https://ztna.example.com".to_owned(),
            };
            Mailer::start(&config, CancellationToken::new()).map(|_| ())
        };
        start("smtp://localhost:2525", "ztna <noreply@example.com>").unwrap();
        start(
            "smtps://user:password@mail.example.com",
            "noreply@example.com",
        )
        .unwrap();
        for url in [
            "",
            "mail.example.com",
            "http://mail.example.com",
            "file:///dev/null/mail",
        ] {
            assert!(start(url, "noreply@example.com").is_err(), "{url}");
        }
        assert!(start("smtp://localhost", "nobody").is_err());
    }
}
