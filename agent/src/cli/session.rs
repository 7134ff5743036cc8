//! A person's session with the control plane, kept by the command line: 0600 in the person's own
//! configuration folder, never with the daemon.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};
use ztna_local::{DaemonState, Secret, Status, UpOptions};
use ztna_proto::api::{Me, OrgMembership, Session};
use ztna_proto::{ErrorCode, OrgId};

use super::login;
use crate::control::{Api, ControlError, Server};
use crate::daemon::replace_file;
use crate::platform::{Person, person_folder, readable_by_others};

const FILE: &str = "session.json";
const VERSION: u32 = 1;
/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// What is kept of a session: what a new one can be had for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: u32,
    /// The control plane that it is with.
    pub server: Server,
    /// Single use, rotated.
    pub refresh_token: RefreshToken,
}

/// A refresh token: no `Debug`, wiped on drop.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct RefreshToken(pub String);

impl Kept {
    /// What is kept of a session with `server`.
    #[must_use]
    pub fn of(server: Server, session: &Session) -> Self {
        Self {
            version: VERSION,
            server,
            refresh_token: RefreshToken(session.refresh_token.clone()),
        }
    }
}

/// Where a person's session is kept.
pub struct Store {
    folder: PathBuf,
    person: Person,
}

impl Store {
    /// The store of the person who runs this command; under sudo, of the person who typed it.
    ///
    /// # Errors
    /// There is no home folder.
    pub fn of_caller() -> anyhow::Result<Self> {
        let named = std::env::var_os("ZTNA_CONFIG_DIR").filter(|value| !value.is_empty());
        if let Some(folder) = named {
            return Ok(Self::at(folder.into()));
        }
        let person = Person::calling()
            .context("there is no home folder to keep the sign-in in; set ZTNA_CONFIG_DIR")?;
        Ok(Self {
            folder: person.config.join("ztna"),
            person,
        })
    }

    fn at(folder: PathBuf) -> Self {
        Self {
            person: Person::with_config(folder.clone()),
            folder,
        }
    }

    /// Reads the session. `None`: there is none.
    ///
    /// # Errors
    /// It cannot be read, or others can read it too.
    pub fn load(&self) -> anyhow::Result<Option<Kept>> {
        let path = self.folder.join(FILE);
        self.person.act(|| {
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path.display()));
                }
            };
            if readable_by_others(&metadata) {
                bail!(
                    "others can read the sign-in in {}; delete it and sign in again with \
                     `ztna login`",
                    path.display()
                );
            }
            if metadata.len() > MAX_FILE {
                bail!("{} is no sign-in of ztna's; delete it", path.display());
            }
            let bytes = Zeroizing::new(
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            );
            let kept: Kept = serde_json::from_slice(&bytes).map_err(|_| {
                anyhow::anyhow!(
                    "{} is damaged; delete it and sign in again with `ztna login`",
                    path.display()
                )
            })?;
            Ok(Some(kept))
        })
    }

    /// Keeps a session in place of the one before.
    ///
    /// # Errors
    /// The system refused; what was kept is as it was.
    pub fn save(&self, kept: &Kept) -> anyhow::Result<()> {
        let path = self.folder.join(FILE);
        let bytes = Zeroizing::new(serde_json::to_vec_pretty(kept)?);
        self.person.act(|| {
            person_folder(&self.folder)
                .and_then(|()| replace_file(&path, &bytes, 0o600))
                .with_context(|| format!("cannot write {}", path.display()))
        })
    }

    /// Forgets the session. That there is none is no error.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove(&self) -> anyhow::Result<()> {
        let path = self.folder.join(FILE);
        self.person.act(|| match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", path.display()))
            }
            _ => Ok(()),
        })
    }
}

/// Puts a credential into the options, if the machine has to register and somebody signed in or
/// is there to do so.
///
/// # Errors
/// The session is refused, or the org is not clear.
pub async fn offer(
    options: &mut UpOptions,
    status: &Status,
    org: Option<&str>,
) -> anyhow::Result<()> {
    let registered = status.this.is_some() && status.state != DaemonState::NeedsLogin;
    if registered && !options.renew {
        return Ok(());
    }
    let named = match (&options.server, &status.control.url) {
        (Some(url), _) => Some(url.as_str()),
        (None, Some(url)) => Some(url.as_str()),
        (None, None) => None,
    };
    let store = Store::of_caller()?;
    let kept = store.load()?.filter(|kept| {
        named.is_none_or(|url| {
            Server::parse(url, None, true).is_ok_and(|named| named.same_place(&kept.server))
        })
    });
    let (server, access_token) = match kept {
        Some(kept) => {
            let (api, session) = renew(&store, kept).await?;
            (api.server().clone(), session.access_token)
        }
        None if login::somebody_is_there() => {
            let Some(url) = named else { return Ok(()) };
            let server = Server::parse(url, options.server_pin.as_deref(), options.allow_http)?;
            let session = login::sign_in(&server).await?;
            store.save(&Kept::of(server.clone(), &session))?;
            (server, session.access_token)
        }
        // The daemon says what is missing.
        None => return Ok(()),
    };
    let me = Api::new(server.clone())?.me(&access_token).await?;
    options.org = Some(choose_org(&me, org)?);
    options.access_token = Some(Secret::new(access_token));
    options.server = Some(server.origin().to_owned());
    options.server_pin = server.pin_text();
    options.allow_http |= server.allow_http();
    Ok(())
}

/// A fresh session for the one that is kept, which is used up by this.
///
/// # Errors
/// It is refused (then it is forgotten), or the control plane was not reached.
pub async fn renew(store: &Store, kept: Kept) -> anyhow::Result<(Api, Session)> {
    let api = Api::new(kept.server.clone())?;
    match api.refresh(kept.refresh_token.0.clone()).await {
        Ok(session) => {
            store.save(&Kept::of(kept.server, &session))?;
            Ok((api, session))
        }
        Err(ControlError::Refused(error)) if error.code == ErrorCode::Unauthorized => {
            store.remove()?;
            bail!(
                "your sign-in with {} is over; sign in again with `ztna login`",
                kept.server.origin()
            )
        }
        Err(error) => Err(error.into()),
    }
}

/// A person who is signed in, and the org that is meant.
pub struct Signed {
    /// Where they are signed in.
    pub api: Api,
    /// The fresh session.
    pub session: Session,
    /// The org.
    pub org: OrgId,
}

/// Renews the session that is kept and chooses the org, for commands that ask the control plane.
///
/// # Errors
/// Nobody is signed in, the session is refused, or the org is not clear.
pub async fn enter(org: Option<&str>) -> anyhow::Result<Signed> {
    let store = Store::of_caller()?;
    let kept = store
        .load()?
        .context("you are not signed in; run `ztna login`")?;
    let (api, session) = renew(&store, kept).await?;
    let me = api.me(&session.access_token).await?;
    let org = choose_org(&me, org)?;
    Ok(Signed { api, session, org })
}

/// The org that is meant.
pub fn choose_org(me: &Me, wanted: Option<&str>) -> anyhow::Result<OrgId> {
    let list = || {
        let names: Vec<&str> = me.orgs.iter().map(|org| org.slug.as_str()).collect();
        names.join(", ")
    };
    let is = |org: &&OrgMembership, name: &str| {
        org.slug == name || org.name == name || org.id.to_string() == name
    };
    match (wanted, me.orgs.as_slice()) {
        (_, []) => bail!(
            "{} is a member of no org; have an admin add you, or create an org",
            me.email
        ),
        (Some(name), orgs) => match orgs.iter().find(|org| is(org, name)) {
            Some(org) => Ok(org.id),
            None => bail!(
                "{} is not a member of {name:?}, but of: {}",
                me.email,
                list()
            ),
        },
        (None, [org]) => Ok(org.id),
        (None, _) => bail!(
            "{} is a member of several orgs; say which to join with --org: {}",
            me.email,
            list()
        ),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::{os::unix::fs::PermissionsExt, path::Path};

    use super::*;
    use ztna_proto::UserId;
    use ztna_proto::api::Role;

    #[cfg(unix)]
    fn store_at(folder: &Path) -> Store {
        Store::at(folder.to_owned())
    }

    #[cfg(unix)]
    fn kept() -> Kept {
        let session = Session {
            access_token: "access".to_owned(),
            expires_in: 900,
            refresh_token: "refresh".to_owned(),
        };
        Kept::of(
            Server::parse("https://z.example", None, false).unwrap(),
            &session,
        )
    }

    #[cfg(unix)]
    #[test]
    fn a_session_is_private_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_at(&folder.path().join("ztna"));
        assert!(store.load().unwrap().is_none());
        store.save(&kept()).unwrap();
        let path = folder.path().join("ztna").join(FILE);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("access"), "access tokens stay in memory");
        let back = store.load().unwrap().unwrap();
        assert_eq!(back.refresh_token.0, "refresh");
        store.remove().unwrap();
        store.remove().unwrap();
        assert!(store.load().unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_session_that_others_can_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_at(folder.path());
        store.save(&kept()).unwrap();
        let path = folder.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let Err(error) = store.load() else {
            panic!("read");
        };
        assert!(error.to_string().contains("sign in again"), "{error}");
    }

    #[test]
    fn the_org_is_clear_or_asked_for() {
        let org = |slug: &str| OrgMembership {
            id: OrgId::generate(),
            name: slug.to_uppercase(),
            slug: slug.to_owned(),
            role: Role::Member,
        };
        let me = |orgs: &[&OrgMembership]| Me {
            id: UserId::generate(),
            email: "a@example.org".to_owned(),
            mfa: false,
            orgs: orgs.iter().map(|org| (*org).clone()).collect(),
        };
        let (acme, beta) = (org("acme"), org("beta"));
        assert_eq!(choose_org(&me(&[&acme]), None).unwrap(), acme.id);
        let both = me(&[&acme, &beta]);
        for name in ["beta", "BETA", &beta.id.to_string()] {
            assert_eq!(choose_org(&both, Some(name)).unwrap(), beta.id);
        }
        let message = |me: &Me, name| choose_org(me, name).unwrap_err().to_string();
        assert!(message(&both, None).ends_with("--org: acme, beta"));
        assert!(message(&both, Some("x")).ends_with("but of: acme, beta"));
        assert!(message(&me(&[]), None).contains("member of no org"));
    }
}
