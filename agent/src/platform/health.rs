//! What a machine can tell of its own health.

use ztna_proto::posture::{PostureReport, Signal};

/// Collects posture. One implementation per operating system; what it cannot know, it says is
/// unknown, for a guess would open doors.
///
/// Every answer comes within a few seconds, whatever the machine is busy with. Findings are the same as
/// long as what they speak of is: a report that differs is news.
pub trait Health {
    /// What the system is: the parts of a report that are no findings.
    fn system(&self) -> System;
    /// Whether the file systems with people's and the system's data are encrypted.
    fn disk_encryption(&self) -> Signal;
    /// Whether a firewall drops what nobody asked for.
    fn firewall(&self) -> impl Future<Output = Signal> + Send;
    /// Whether the screen locks itself.
    fn screen_lock(&self) -> Signal;
    /// Whether security updates are installed without anybody's doing.
    fn auto_update(&self) -> Signal;
    /// Whether an update waits for a restart.
    fn reboot_pending(&self) -> Signal;
}

/// What a system is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Name and version, for people.
    pub name: Option<String>,
    /// Version as rules compare it.
    pub version: Option<String>,
    /// Distribution, for systems that have several.
    pub distro: Option<String>,
    /// The distribution's version.
    pub distro_version: Option<String>,
}

/// The report of this machine as it is now.
pub async fn posture(health: &impl Health) -> PostureReport {
    let system = health.system();
    PostureReport {
        os_name: system.name,
        os_version: system.version,
        distro: system.distro,
        distro_version: system.distro_version,
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        disk_encryption: health.disk_encryption(),
        firewall: health.firewall().await,
        screen_lock: health.screen_lock(),
        auto_update: health.auto_update(),
        reboot_pending: health.reboot_pending(),
    }
}
