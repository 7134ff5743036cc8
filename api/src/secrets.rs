//! Secrets that an operator gives in files: systemd's credentials, Compose's and Kubernetes' secrets. The environment is
//! seen by whoever may look at the process, and inherited by what it starts.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;
use ztna_objects::S3Settings;

/// The secret half of an object store's key.
const S3_SECRET: &str = "AWS_SECRET_ACCESS_KEY";
/// Largest file that holds a secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// A file holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file system's.
    #[error("cannot read the secret in {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It cannot be what was meant.
    #[error("{path} holds no secret: {what}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// It was given twice.
    #[error("{name} and {name}_FILE are both set; unset one of them")]
    Twice {
        /// The variable.
        name: &'static str,
    },
}

/// Reads a secret from a file. The end of a line behind it is none of it.
///
/// # Errors
/// It cannot be read, is empty, or holds what no secret is.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let failed = |error| SecretError::Io {
        path: path.to_owned(),
        error,
    };
    let unfit = |what| SecretError::Unfit {
        path: path.to_owned(),
        what,
    };
    let file = File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    let read = file.take(MAX_SECRET + 1).read_to_string(&mut text);
    read.map_err(failed)?;
    if text.len() as u64 > MAX_SECRET {
        return Err(unfit("it is too large"));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let secret = line.strip_suffix('\r').unwrap_or(line);
    if secret.is_empty() {
        return Err(unfit("it is empty"));
    }
    if secret.contains('\n') {
        return Err(unfit("it has several lines"));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// A secret that was given as it is, or in a file.
///
/// # Errors
/// As [`read_secret`].
pub fn secret(
    given: Option<&str>,
    file: Option<&Path>,
) -> Result<Option<Zeroizing<String>>, SecretError> {
    match (given, file) {
        (Some(given), _) => Ok(Some(Zeroizing::new(given.to_owned()))),
        (None, Some(file)) => read_secret(file).map(Some),
        (None, None) => Ok(None),
    }
}

/// Where backups are and by which key, from the environment: `AWS_SECRET_ACCESS_KEY_FILE` may stand for
/// `AWS_SECRET_ACCESS_KEY`.
///
/// # Errors
/// As [`read_secret`], or both are set.
pub fn s3_settings() -> Result<S3Settings, SecretError> {
    let mut settings = S3Settings::from_env();
    if let Some(file) = env::var_os(format!("{S3_SECRET}_FILE")).filter(|file| !file.is_empty()) {
        if !settings.secret_key.is_empty() {
            return Err(SecretError::Twice { name: S3_SECRET });
        }
        settings.secret_key = read_secret(Path::new(&file))?.as_str().to_owned();
    }
    Ok(settings)
}

/// The database of nodes and of what is done to it.
#[derive(Args)]
#[group(id = "database", required = true, multiple = false)]
pub struct DatabaseFlags {
    /// The database, as postgres://user@host/name. Serving, its account makes the roles at the first start; otherwise the
    /// account is a superuser's, or to back up has BYPASSRLS
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// File that holds it, in its place
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
}

impl DatabaseFlags {
    /// The address.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn url(&self) -> Result<Zeroizing<String>, SecretError> {
        let url = secret(
            self.database_url.as_deref(),
            self.database_url_file.as_deref(),
        )?;
        Ok(url.unwrap_or_default())
    }
}

/// Where letters to people go, and from whom.
#[derive(Args)]
#[group(skip)]
pub struct MailFlags {
    /// Where letters to people go: smtp://[user:password@]host[:port][?tls=required], smtps://…, or
    /// file:///folder to write them down. Addresses then have to be confirmed [default: no mail]
    #[arg(
        long,
        env = "ZTNA_MAIL_URL",
        hide_env_values = true,
        requires = "mail_from",
        group = "mail",
        value_name = "URL"
    )]
    mail_url: Option<String>,
    /// File that holds it, in its place
    #[arg(
        long,
        env = "ZTNA_MAIL_URL_FILE",
        requires = "mail_from",
        group = "mail",
        value_name = "FILE"
    )]
    mail_url_file: Option<PathBuf>,
    /// Sender of letters, as in `ztna <noreply@example.com>`
    #[arg(
        long,
        env = "ZTNA_MAIL_FROM",
        requires = "mail",
        value_name = "ADDRESS"
    )]
    mail_from: Option<String>,
}

impl MailFlags {
    /// Address and sender, if there is to be mail.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<Option<(String, String)>, SecretError> {
        let url = secret(self.mail_url.as_deref(), self.mail_url_file.as_deref())?;
        let url = url.map(|url| url.as_str().to_owned());
        Ok(url.zip(self.mail_from.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_its_end_is_none_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            read_secret(&path).map(|secret| secret.as_str().to_owned())
        };
        for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            assert_eq!(read(content.as_bytes()).unwrap(), "s3cret");
        }
        assert_eq!(read(b" s3 cret \n").unwrap(), " s3 cret ", "blanks count");
        for (bad, why) in [
            (b"".as_slice(), "empty"),
            (b"\n", "empty"),
            (b"a\nb", "several lines"),
            (b"a\n\n", "several lines"),
            (b"\xff", "UTF-8"),
            (&[b'x'; 64 * 1024 + 1], "too large"),
        ] {
            let text = read(bad).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("secret"), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        let text = read_secret(&path).unwrap_err().to_string();
        assert!(text.contains("cannot read"), "{text}");
    }
}
