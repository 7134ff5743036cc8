//! What makes this machine a router for its peers: the kernel forwards, and nftables puts this
//! machine's own address in front, so that the networks behind it need no route back.

use std::io;
use std::path::Path;
use std::process::Stdio;

use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::platform::{Behind, Families};

/// The program that loads rules.
const NFT: &str = "nft";
/// Marks packets on their way from the tunnel, for the chain that sees no incoming interface. Bits of
/// others stay.
const FORWARDED: (u32, u32) = (0x00a7_0000, 0x00ff_0000);

/// The check of sources; the larger of this and an interface's own counts (ip-sysctl.rst).
const RP_FILTER: &str = "/proc/sys/net/ipv4/conf/all/rp_filter";
/// Its value that lets sources pass which are reached by any interface.
const LOOSE: &str = "2";

/// Whether the system can do it at all.
///
/// # Errors
/// nftables is not there; the message says how to get it.
pub async fn check() -> io::Result<()> {
    nft(&["--version"], "").await
}

/// Switches forwarding on. What was off and is on now is told, a line each.
///
/// Forwarding stays on later: other programs may rely on it by then.
///
/// # Errors
/// The kernel refuses.
pub fn switch_on(families: Families) -> io::Result<Vec<String>> {
    let mut told = Vec::new();
    if families.v4 && set("net/ipv4/ip_forward", "0", "1")? {
        told.push("switched IPv4 forwarding on (net.ipv4.ip_forward); it stays on".to_owned());
    }
    if families.v6 && Path::new("/proc/sys/net/ipv6").is_dir() {
        // A router takes no routes from others' announcements unless it is told to (2): this host has
        // to keep its default route.
        for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            set(&format!("net/ipv6/conf/{name}/accept_ra"), "1", "2")?;
        }
        if set("net/ipv6/conf/all/forwarding", "0", "1")? {
            let note = "switched IPv6 forwarding on (net.ipv6.conf.all.forwarding); it stays on";
            told.push(note.to_owned());
        }
    }
    Ok(told)
}

/// The kernel's check of sources for all interfaces, if any of them is strict (RFC 3704): that would
/// drop peers' datagrams, which answer what left by another interface, while everything else is routed
/// into the tunnel.
///
/// # Errors
/// The kernel refuses.
pub fn strict_source_check() -> io::Result<Option<String>> {
    let mut strict = false;
    for entry in std::fs::read_dir("/proc/sys/net/ipv4/conf")?.flatten() {
        let value = std::fs::read_to_string(entry.path().join("rp_filter"))?;
        strict |= value.trim() == "1";
    }
    match strict {
        true => Ok(Some(std::fs::read_to_string(RP_FILTER)?.trim().to_owned())),
        false => Ok(None),
    }
}

/// Makes that check loose.
///
/// # Errors
/// The kernel refuses.
pub fn loosen_source_check() -> io::Result<()> {
    std::fs::write(RP_FILTER, LOOSE)
}

/// Takes that back, if nobody has changed it since.
///
/// # Errors
/// The kernel refuses.
pub fn restore_source_check(before: &str) -> io::Result<()> {
    if std::fs::read_to_string(RP_FILTER)?.trim() != LOOSE {
        return Ok(());
    }
    std::fs::write(RP_FILTER, before)
}

/// Writes a setting if it has a value. Whether it had.
fn set(path: &str, from: &str, to: &str) -> io::Result<bool> {
    let path = Path::new("/proc/sys").join(path);
    if std::fs::read_to_string(&path)?.trim() != from {
        return Ok(false);
    }
    std::fs::write(&path, to).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    })?;
    Ok(true)
}

/// Loads our table for the device, in place of the one before.
///
/// # Errors
/// nftables is missing, or refuses.
pub async fn masquerade(device: &str, behind: &Behind) -> io::Result<()> {
    if device.contains(['"', '\\']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("nftables cannot name the device {device:?}; choose another with --tun"),
        ));
    }
    nft(&["-f", "-"], &rules(device, behind)).await
}

/// Removes our table. None there is none to remove.
///
/// # Errors
/// nftables is missing, or refuses.
pub async fn remove(device: &str) -> io::Result<()> {
    let table = table(device);
    // `delete` of a table that is not there fails; one that was just made is there.
    nft(
        &["-f", "-"],
        &format!("table inet {table}\ndelete table inet {table}\n"),
    )
    .await
}

fn table(device: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("ztna_{}", device.chars().map(plain).collect::<String>())
}

/// A rule for each network, as few as may be.
fn each<'n>(device: &str, networks: impl Iterator<Item = &'n IpNet>, verdict: &str) -> String {
    let networks = IpNet::aggregate(&networks.map(IpNet::trunc).collect());
    let rule = |network: &IpNet| {
        let family = if network.addr().is_ipv4() {
            "ip"
        } else {
            "ip6"
        };
        format!("        iifname \"{device}\" {family} daddr {network} {verdict}\n")
    };
    networks.iter().map(rule).collect()
}

/// The kernel forwards for everybody, and peers take what comes from the tunnel for this machine's: what
/// others send enters it only as an answer. Without an entry in the table of connections nothing is one.
///
/// From the tunnel, addresses of this machine's other interfaces and its links are reached only where
/// they are approved.
fn rules(device: &str, behind: &Behind) -> String {
    let table = table(device);
    let (mark, mask) = FORWARDED;
    let rest = !mask;
    let approved = each(device, behind.approved.iter(), "accept");
    let on_link = each(device, behind.on_link.iter(), "drop");
    format!(
        r#"table inet {table}
delete table inet {table}
table inet {table} {{
    chain input {{
        type filter hook input priority mangle; policy accept;
{approved}        iifname "{device}" fib daddr . iif type != local drop
    }}
    chain forward {{
        type filter hook forward priority mangle; policy accept;
        iifname != "{device}" oifname "{device}" ct direction reply accept
        iifname != "{device}" oifname "{device}" drop
        iifname "{device}" meta mark set meta mark & {rest:#x} | {mark:#x}
{approved}{on_link}    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "{device}" meta mark & {mask:#x} == {mark:#x} masquerade
    }}
}}
"#
    )
}

async fn nft(args: &[&str], input: &str) -> io::Result<()> {
    let spawned = Command::new(NFT)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            "the program `nft` is missing, which routers need; install nftables (`apt install \
             nftables`, `dnf install nftables`) and try again",
        ),
        _ => error,
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("nftables refuses: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_after_its_device() {
        assert_eq!(table("zt-0.1"), "ztna_zt_0_1");
        let behind = Behind {
            approved: ["10.7.0.0/16", "10.7.1.0/24"]
                .map(|n| n.parse().unwrap())
                .into(),
            on_link: ["2001:db8::/64".parse().unwrap()].into(),
        };
        let rules = rules("ztna0", &behind);
        assert!(rules.contains(r#"iifname "ztna0""#) && rules.contains("& 0xff00ffff | 0xa70000"));
        assert!(rules.contains(r#"iifname "ztna0" ip daddr 10.7.0.0/16 accept"#));
        assert!(!rules.contains("10.7.1.0"), "it is in the other");
        assert!(rules.contains(r#"iifname "ztna0" ip6 daddr 2001:db8::/64 drop"#));
    }
}
