//! Paths that carry packets of other sizes than the machines' own network, and tell nobody: routers drop
//! what is too large without a word. TCP and large datagrams must get through on each, jumbo frames must be
//! used where they fit, and a path that shrinks under way must not swallow anything for long.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{getsockopt, sockopt};

use super::pair::Pair;
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::lab::Lab;
use crate::measure::{Gauge, throughput};
use crate::net::cmd::poll;
use crate::net::{Host, Nat, Net, Netns, Router};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "mtu",
    about: "paths of 9000, 1492, 1420, 1380 and 1280 bytes, all ICMP errors dropped: TCP and 60 kB datagrams pass, jumbo is used",
    run,
    expected_logs: &[],
};

/// What the path carries, one after the other; and what a tunnel over IPv4 carries then (60 bytes less,
/// in steps of 16).
const SIZES: [(u16, u16); 5] = [
    (9000, 8928),
    (1492, 1424),
    (1420, 1360),
    (1380, 1312),
    (1280, 1216),
];
/// What the machines' own networks carry.
const JUMBO: u16 = 9000;
/// Longest wait until both ends know a path's size: a path that shrank is noticed after 3.5 s, and the search
/// takes about 2 s.
const FOUND_LIMIT: Duration = Duration::from_secs(30);
/// Payload of a large datagram.
const DATAGRAM: usize = 60_000;
/// Large datagrams in each direction.
const DATAGRAMS: usize = 5;
/// Longest wait for the first one, which is sent every so often until it arrives.
const LEARNING_LIMIT: Duration = Duration::from_secs(20);
const LEARNING_WAIT: Duration = Duration::from_millis(500);
/// Longest wait for another.
const DATAGRAM_LIMIT: Duration = Duration::from_secs(3);
/// What is sent by TCP in each direction.
const TRANSFER: usize = 4 << 20;
/// Longest wait for any of it.
const TRANSFER_LIMIT: Duration = Duration::from_secs(20);
/// Share of TCP's bytes that has to go directly.
const DIRECT_SHARE: f64 = 0.95;
/// Payload of an echo request that makes a packet of 1,280 bytes of IPv6.
const IPV6_LEAST: &str = "1232";

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::Cone)?;
    let two = lab.net.router("r2", Nat::Cone)?;
    let (a, b) = (one.host("a")?, two.host("b")?);
    for (router, host, port) in [(&one, &a, "r1"), (&two, &b, "r2")] {
        carry_jumbo(&lab.net, router, host, port)?;
        router.drop_icmp_errors()?;
    }
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    pair.wait_for_path(figures, "direct")?;
    let gauges = [pair.gauge(&one, &b), pair.gauge(&two, &a)];
    for (size, inner) in SIZES {
        for router in [&one, &two] {
            router.set_mtu(size)?;
        }
        let begun = Instant::now();
        wait_for_size(&pair, size)?;
        figures.seconds(&format!("found_{size}_s"), begun.elapsed());
        check(lab, figures, &pair, &gauges, (size, inner))
            .with_context(|| format!("on a path of {size} bytes"))?;
    }
    without_relay(pair)
}

/// Lets the network between a host and the internet's bridge carry jumbo frames.
fn carry_jumbo(net: &Net, router: &Router, host: &Host, port: &str) -> Result<()> {
    let set = |netns: &Netns, device: &str| netns.ip(&format!("link set dev {device} mtu {JUMBO}"));
    set(&host.netns, "eth0")?;
    set(&router.netns, &host.name)?;
    set(&router.netns, "lan")?;
    set(net.internet(), port)?;
    set(net.internet(), "br0")?;
    router.set_mtu(JUMBO)
}

/// Waits until both machines say that their path is direct and carries packets of this size.
fn wait_for_size(pair: &Pair, size: u16) -> Result<()> {
    let mut last = None;
    poll(FOUND_LIMIT, &format!("the path's size is {size}"), || {
        // An idle path is not probed.
        pair.b.pings(pair.a.ipv4()?)?;
        let views = pair.views()?.map(|view| view.path);
        let known = views
            .iter()
            .all(|path| path.mtu == Some(size) && path.mtu_settled);
        last = Some(views);
        Ok(known.then_some(()))
    })
    .with_context(|| format!("the machines say {last:?}"))
}

fn check(
    lab: &Lab,
    figures: &mut Figures,
    pair: &Pair,
    gauges: &[Gauge],
    (size, inner): (u16, u16),
) -> Result<()> {
    let ends = [&pair.a, &pair.b];
    for (from, to) in [(0, 1), (1, 0)] {
        let (from, to) = (ends[from], ends[to]);
        for (own, far) in addresses(from)?.into_iter().zip(addresses(to)?) {
            datagrams((from, own), (to, far))?;
        }
    }
    for gauge in gauges {
        gauge.reset()?;
    }
    for (own, far) in addresses(&pair.a)?.into_iter().zip(addresses(&pair.b)?) {
        let segment = transfer((&pair.a, own), (&pair.b, far))?;
        let headers = if own.is_ipv6() { 60 } else { 40 };
        // Timestamps take 12 bytes of each segment, and the kernel counts them or not.
        let allowed = u32::from(inner) - headers - 12..=u32::from(inner) - headers;
        ensure!(
            allowed.contains(&segment),
            "TCP to {far} uses segments of {segment} bytes, must be {allowed:?}"
        );
    }
    let mbits = throughput(&pair.b, &pair.a, &lab.log("iperf3"))?;
    figures.set(&format!("throughput_{size}_mbit_s"), mbits);
    for gauge in gauges {
        let (direct, relayed) = gauge.bytes()?;
        let share = direct as f64 / (direct + relayed) as f64;
        ensure!(
            share >= DIRECT_SHARE,
            "{direct} bytes of TCP went directly and {relayed} by relay, counted at {}",
            gauge.at.name()
        );
    }
    least_of_ipv6(pair)
}

fn addresses(agent: &Agent) -> Result<[IpAddr; 2]> {
    Ok([agent.ipv4()?.into(), agent.ipv6()?.into()])
}

/// Sends large datagrams from one machine to the other; all must arrive as they were. Before that one has to
/// arrive: on a path that shrank, the kernel and the connection to the relay learn it by what they lose.
fn datagrams(from: (&Agent, IpAddr), to: (&Agent, IpAddr)) -> Result<()> {
    let bind = |(agent, address): (&Agent, IpAddr)| {
        agent
            .netns()
            .within(|| Ok(UdpSocket::bind((address, 0))?))
            .with_context(|| format!("cannot bind {address}"))
    };
    let (sender, receiver) = (bind(from)?, bind(to)?);
    let target = receiver.local_addr()?;
    let mut buffer = vec![0; DATAGRAM + 1];
    receiver.set_read_timeout(Some(LEARNING_WAIT))?;
    poll(
        LEARNING_LIMIT,
        &format!("a datagram arrives at {target}"),
        || {
            sender.send_to(&buffer[..DATAGRAM], target)?;
            Ok(receiver.recv(&mut vec![0; DATAGRAM]).ok())
        },
    )?;
    while receiver.recv(&mut buffer).is_ok() {}
    receiver.set_read_timeout(Some(DATAGRAM_LIMIT))?;
    for number in 0..DATAGRAMS {
        let sent: Vec<u8> = (0..DATAGRAM).map(|at| (at * 7 + number) as u8).collect();
        sender.send_to(&sent, target)?;
        let length = receiver
            .recv(&mut buffer)
            .with_context(|| format!("datagram {number} from {} to {target}", from.1))?;
        ensure!(
            buffer[..length] == sent,
            "datagram {number} to {target} arrived as another"
        );
    }
    Ok(())
}

/// Sends data both ways by TCP; gives the segment size that the sender uses.
fn transfer(client: (&Agent, IpAddr), server: (&Agent, IpAddr)) -> Result<u32> {
    let (agent, address) = server;
    let listener = agent
        .netns()
        .within(|| Ok(TcpListener::bind((address, 0))?))?;
    let target = listener.local_addr()?;
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            receive(&mut stream)?;
            send(&mut stream)
        });
        let segment = client.0.netns().within(|| call(target))?;
        serving
            .join()
            .map_err(|_| anyhow::anyhow!("the serving thread panicked"))??;
        anyhow::Ok(segment)
    })
    .with_context(|| format!("TCP from {} to {target}", client.1))
}

fn call(target: SocketAddr) -> Result<u32> {
    let mut stream = TcpStream::connect_timeout(&target, TRANSFER_LIMIT)?;
    send(&mut stream)?;
    receive(&mut stream)?;
    Ok(getsockopt(&stream, sockopt::TcpMaxSeg)?)
}

fn send(stream: &mut TcpStream) -> Result<()> {
    stream.set_write_timeout(Some(TRANSFER_LIMIT))?;
    stream.write_all(&vec![7; TRANSFER])?;
    Ok(())
}

fn receive(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(TRANSFER_LIMIT))?;
    stream.read_exact(&mut vec![0; TRANSFER])?;
    Ok(())
}

/// A packet of 1,280 bytes must pass, whatever the path carries: IPv6 cannot make it smaller.
fn least_of_ipv6(pair: &Pair) -> Result<()> {
    for (from, to) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
        let address = to.ipv6()?;
        if !from.pings_with(address.into(), &["-s", IPV6_LEAST, "-M", "do"])? {
            bail!(
                "no packet of 1,280 bytes gets from {} to {address}",
                from.name()
            );
        }
    }
    Ok(())
}

/// Where the path is too small for a packet and there is no relay, it passes in fragments.
fn without_relay(pair: Pair) -> Result<()> {
    let Pair {
        server,
        mut a,
        mut b,
        ..
    } = pair;
    server.stop()?;
    let relay_is_gone = |agent: &Agent| anyhow::Ok(!agent.status()?.relay.connected);
    poll(FOUND_LIMIT, "both machines miss their relay", || {
        a.pings(b.ipv4()?)?;
        Ok((relay_is_gone(&a)? && relay_is_gone(&b)?).then_some(()))
    })?;
    let mut answered = 0;
    for _ in 0..DATAGRAMS {
        let address = b.ipv6()?.into();
        answered += usize::from(a.pings_with(address, &["-s", IPV6_LEAST, "-M", "do"])?);
    }
    demand_eq(
        "packets of 1,280 bytes without a relay",
        &answered,
        &DATAGRAMS,
    )?;
    a.stop_daemon()?;
    b.stop_daemon()
}
