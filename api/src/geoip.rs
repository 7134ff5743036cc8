//! In which country an address is, as a database says that the operator gives: a file in the MaxMind DB
//! format (GeoLite2-Country, DB-IP, IPinfo with `country.iso_code`). Without one, no country is known.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{PathElement, Reader};

/// Where records of a database hold the code of the country.
const CODE: [PathElement<'static>; 2] = [PathElement::Key("country"), PathElement::Key("iso_code")];

/// The file is no database of countries.
#[derive(Debug, thiserror::Error)]
pub enum GeoIpError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}; correct --geoip")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is of another format, or damaged.
    #[error("{path} is no MaxMind DB: {reason}; give --geoip a file like GeoLite2-Country.mmdb")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A database of addresses, held in memory.
pub struct GeoIp(Reader<Vec<u8>>);

impl GeoIp {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is no such database.
    pub fn open(path: &Path) -> Result<Self, GeoIpError> {
        let bytes = std::fs::read(path).map_err(|source| GeoIpError::Io {
            path: path.to_owned(),
            source,
        })?;
        let reader = Reader::from_source(bytes).map_err(|error| GeoIpError::Format {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self(reader))
    }

    /// The country of an address: ISO 3166-1 alpha-2. `None`: not known.
    pub(crate) fn country(&self, address: IpAddr) -> Option<String> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let code: Option<String> = found.decode_path(&CODE).ok()?;
        code.filter(|code| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
    }
}
