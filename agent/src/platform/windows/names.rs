//! Which names this machine's programs ask our service for: rules of the name resolution policy table, in the
//! registry (MS-GPNRPT §2.2.2). The DNS client looks at them as they change.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use winreg::RegKey;
use winreg::enums::HKEY_LOCAL_MACHINE;

/// Where this machine's own rules are; those of a domain's policy are elsewhere, and win.
pub const NAME_RULES: &str =
    r"SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig";
/// How the names of our keys begin; a number follows.
const OURS: &str = "{5a746e61-6e65-4c72-8f3d-";
/// Most names in one rule: the system is told of no more.
const MAX_NAMES: usize = 50;
/// `ConfigOptions`: the rule names DNS servers.
const GENERIC_SERVERS: u32 = 8;
/// `Version` of a rule.
const VERSION: u32 = 1;

/// The rules under a key.
pub struct NameRules(PathBuf);

impl NameRules {
    /// Of this key of the machine.
    pub fn new(key: &Path) -> Self {
        Self(key.to_owned())
    }

    /// Has `service` asked for these domains, or for everything. `Some`: what it cannot do of that.
    ///
    /// # Errors
    /// The system refuses.
    pub fn set(
        &self,
        domains: &BTreeSet<String>,
        search: &[String],
        everything: bool,
        service: IpAddr,
    ) -> io::Result<Option<&'static str>> {
        let (rules, _) = RegKey::predef(HKEY_LOCAL_MACHINE).create_subkey(&self.0)?;
        // A name stands for itself, and with a dot before it for what is below.
        let mut names: Vec<String> = domains
            .iter()
            .flat_map(|domain| [domain.clone(), format!(".{domain}")])
            .collect();
        if everything {
            names = vec![".".to_owned()];
        }
        let mut kept = BTreeSet::new();
        for (number, names) in names.chunks(MAX_NAMES).enumerate() {
            let key = format!("{OURS}{number:012x}}}");
            let (rule, _) = rules.create_subkey(&key)?;
            rule.set_value("Version", &VERSION)?;
            rule.set_value("Name", &names.to_vec())?;
            rule.set_value("GenericDNSServers", &service.to_string())?;
            rule.set_value("ConfigOptions", &GENERIC_SERVERS)?;
            kept.insert(key);
        }
        for key in ours(&rules)? {
            if !kept.contains(&key) {
                rules.delete_subkey_all(key)?;
            }
        }
        Ok(match search {
            [_, _, ..] => Some(
                "short names are not looked up in search domains: Windows is not told of them yet",
            ),
            [_] => Some(
                "machines' full names are known, short ones not: Windows is not told of search domains yet",
            ),
            [] => None,
        })
    }

    /// Removes all of ours.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(&self) -> io::Result<()> {
        let rules = match RegKey::predef(HKEY_LOCAL_MACHINE)
            .open_subkey_with_flags(&self.0, winreg::enums::KEY_READ | winreg::enums::KEY_WRITE)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            rules => rules?,
        };
        for key in ours(&rules)? {
            rules.delete_subkey_all(key)?;
        }
        Ok(())
    }
}

/// The names of our rules, also of a daemon that was killed.
fn ours(rules: &RegKey) -> io::Result<Vec<String>> {
    let mut ours = Vec::new();
    for key in rules.enum_keys() {
        let key = key?;
        if key.to_ascii_lowercase().starts_with(OURS) {
            ours.push(key);
        }
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_and_go_and_others_stay() {
        let path = format!(r"SOFTWARE\ztna-test-{}", std::process::id());
        let machine = RegKey::predef(HKEY_LOCAL_MACHINE);
        let rules = NameRules::new(path.as_ref());
        rules.remove().unwrap();
        let (key, _) = machine.create_subkey(&path).unwrap();
        key.create_subkey("{00000000-0000-0000-0000-000000000001}")
            .unwrap();
        let service: IpAddr = "100.100.100.100".parse().unwrap();
        let domains = |count: usize| (0..count).map(|n| format!("d{n}.example")).collect();
        let count = || key.enum_keys().count();

        rules.set(&domains(60), &[], false, service).unwrap();
        assert_eq!(count(), 1 + 3, "120 names, 50 in each");
        let first = key.open_subkey(format!("{OURS}{:012x}}}", 0)).unwrap();
        let names: Vec<String> = first.get_value("Name").unwrap();
        assert_eq!(names[..2], ["d0.example", ".d0.example"]);
        let server: String = first.get_value("GenericDNSServers").unwrap();
        assert_eq!(server, "100.100.100.100");
        let options: u32 = first.get_value("ConfigOptions").unwrap();
        assert_eq!(options, 8);

        rules.set(&domains(60), &[], true, service).unwrap();
        assert_eq!(count(), 1 + 1);
        let names: Vec<String> = first.get_value("Name").unwrap();
        assert_eq!(names, ["."]);
        // Of a daemon that was killed.
        NameRules::new(path.as_ref()).remove().unwrap();
        assert_eq!(count(), 1, "others' rules stay");
        machine.delete_subkey_all(&path).unwrap();
    }
}
