//! What a machine can tell of its own health.

use ztna_proto::posture::{PostureReport, Signal};

/// Collects posture. One implementation per operating system; what it cannot know, it says is
/// unknown, for a guess would open doors.
///
/// Every answer comes within a few seconds, whatever the machine is busy with. Findings are the same as
/// long as what they speak of is: a report that differs is news.
pub trait Health {
    /// What the system is: the parts of a report that are no findings.
    fn system(&self) -> impl Future<Output = System> + Send;
    /// Whether the file systems with people's and the system's data are encrypted.
    fn disk_encryption(&self) -> impl Future<Output = Signal> + Send;
    /// Whether a firewall drops what nobody asked for.
    fn firewall(&self) -> impl Future<Output = Signal> + Send;
    /// Whether the screen locks itself.
    fn screen_lock(&self) -> Signal;
    /// Whether security updates are installed without anybody's doing.
    fn auto_update(&self) -> impl Future<Output = Signal> + Send;
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

/// What a program says within the time for it. `None`: there is no such program, it fails, or it is slow.
#[cfg(not(target_os = "linux"))]
pub(super) async fn said(program: &str, args: &[&str]) -> Option<String> {
    /// Time for one program, which answers within a second.
    const TIME: std::time::Duration = std::time::Duration::from_secs(5);
    let ended = tokio::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TIME, ended).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// The report of this machine as it is now.
pub async fn posture(health: &impl Health) -> PostureReport {
    let system = health.system().await;
    PostureReport {
        os_name: system.name,
        os_version: system.version,
        distro: system.distro,
        distro_version: system.distro_version,
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        disk_encryption: health.disk_encryption().await,
        firewall: health.firewall().await,
        screen_lock: health.screen_lock(),
        auto_update: health.auto_update().await,
        reboot_pending: health.reboot_pending(),
    }
}
