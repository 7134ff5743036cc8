//! What rules see of a report.

use ztna_policy::document::Attributes;
use ztna_proto::posture::{Known, PostureReport};

/// The attributes of a report that counts. What the machine does not know has none.
pub(super) fn of(report: &PostureReport) -> Attributes {
    let texts = [
        ("node:osVersion", &report.os_version),
        ("node:distro", &report.distro),
        ("node:distroVersion", &report.distro_version),
        ("node:agentVersion", &report.agent_version),
    ];
    let signals = [
        ("posture:diskEncryption", report.disk_encryption.state),
        ("posture:firewall", report.firewall.state),
        ("posture:screenLock", report.screen_lock.state),
        ("posture:autoUpdate", report.auto_update.state),
        ("posture:rebootPending", report.reboot_pending.state),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text.clone()?)));
    let signals = signals.into_iter().filter_map(|(name, state)| {
        let known = match state {
            Known::Yes => true,
            Known::No => false,
            Known::Unknown => return None,
        };
        Some((name.to_owned(), known.to_string()))
    });
    texts.chain(signals).collect()
}

#[cfg(test)]
mod tests {
    use ztna_policy::document::is_attribute;
    use ztna_proto::posture::Signal;

    use super::*;

    #[test]
    fn attributes_are_those_of_the_policy_language() {
        let yes = Signal::new(Known::Yes, "");
        let text = |text: &str| Some(text.to_owned());
        let report = PostureReport {
            os_name: text("Debian"),
            os_version: text("6.1.0"),
            distro: text("debian"),
            distro_version: text("12"),
            agent_version: text("0.1.0"),
            disk_encryption: yes.clone(),
            firewall: Signal::new(Known::No, ""),
            screen_lock: yes.clone(),
            auto_update: yes.clone(),
            reboot_pending: yes,
        };
        let attributes = of(&report);
        assert_eq!(attributes.len(), 9);
        assert!(
            attributes.keys().all(|name| is_attribute(name)),
            "{attributes:?}"
        );
        assert_eq!(attributes["posture:firewall"], "false");
        assert_eq!(attributes["node:osVersion"], "6.1.0");
        assert!(of(&PostureReport::default()).is_empty());
    }
}
