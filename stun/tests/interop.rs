//! Clients that we did not write: coturn's `turnutils_stunclient` and `turnutils_natdiscovery`, and
//! the `stun` of Debian's stun-client, which speaks RFC 3489.
// The lints know tests by their attribute; the helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod program;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use program::Program;

/// Only a failing test waits for so long, in seconds.
const LIMIT: &str = "60";

/// What a client printed, if it is installed. In continuous integration it must be.
fn output(tool: &str, package: &str, arguments: &[&str]) -> Option<String> {
    let installed = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    if !installed {
        let missing = format!("`{tool}` is missing: apt-get install {package}");
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    }
    let output = Command::new("timeout")
        .args([LIMIT, tool])
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn coturn(tool: &str, arguments: &[&str]) -> Option<String> {
    output(tool, "coturn", arguments)
}

fn assert_says(output: &str, expected: &[&str]) {
    for text in expected {
        assert!(output.contains(text), "no {text:?} in:\n{output}");
    }
}

/// A server at two addresses and ports, of which the first and the last are told.
fn at_two_addresses() -> (Program, SocketAddr, SocketAddr) {
    // Ports that are free at one address may be taken at the other.
    for _ in 0..20 {
        let [primary, alternate] = ["127.0.0.1:0", "127.0.0.2:0"]
            .map(|at| UdpSocket::bind(at).unwrap().local_addr().unwrap());
        let (listen, other) = (primary.to_string(), alternate.to_string());
        if let Ok(program) = Program::start(&["--listen", &listen, "--alternate", &other]) {
            return (program, primary, alternate);
        }
    }
    panic!("no free ports");
}

#[test]
fn coturns_client_learns_its_address() {
    for (at, expected) in [
        ("127.0.0.1:0", "UDP reflexive addr: 127.0.0.1:"),
        ("[::1]:0", "UDP reflexive addr: ::1:"),
    ] {
        let server = Program::start(&["--listen", at]).unwrap();
        let (ip, port) = (server.address().ip(), server.address().port());
        let arguments = ["-p", &port.to_string(), &ip.to_string()];
        let Some(output) = coturn("turnutils_stunclient", &arguments) else {
            return;
        };
        assert_says(&output, &[expected]);
    }
}

#[test]
fn coturns_client_finds_the_other_address() {
    let (_server, primary, alternate) = at_two_addresses();
    let port = primary.port().to_string();
    let Some(output) = coturn("turnutils_stunclient", &["-p", &port, "127.0.0.1"]) else {
        return;
    };
    assert_says(
        &output,
        &[
            "RFC 5780 response 1",
            &format!("Response origin: : {primary}"),
            &format!("Other addr: : {alternate}"),
            "RFC 5780 response 2",
            &format!("Response origin: : {alternate}"),
            "UDP reflexive addr: 127.0.0.1:",
        ],
    );
}

#[test]
fn coturns_discovery_sees_no_nat_in_the_way() {
    let (_server, primary, _) = at_two_addresses();
    let port = primary.port().to_string();
    let arguments = ["-m", "-f", "-p", &port, "127.0.0.1"];
    let Some(output) = coturn("turnutils_natdiscovery", &arguments) else {
        return;
    };
    assert_says(
        &output,
        &[
            "RFC 5780 response 4",
            "Endpoint Independent Mapping!",
            "Endpoint Independent Filtering!",
        ],
    );
}

#[test]
fn an_rfc_3489_client_learns_its_address() {
    let server = Program::start(&["--listen", "127.0.0.1:0"]).unwrap();
    let at = server.address().to_string();
    let Some(output) = output("stun", "stun-client", &[&at, "1", "-v"]) else {
        return;
    };
    assert_says(&output, &["MappedAddress = 127.0.0.1:"]);
}

#[test]
fn an_rfc_3489_client_sees_no_nat_in_the_way() {
    let (_server, primary, alternate) = at_two_addresses();
    let Some(output) = output("stun", "stun-client", &[&primary.to_string(), "-v"]) else {
        return;
    };
    assert_says(
        &output,
        &[
            "MappedAddress = 127.0.0.1:",
            &format!("ChangedAddress = {alternate}"),
            &format!("SourceAddress = 127.0.0.2:{}", primary.port()),
            &format!("SourceAddress = 127.0.0.1:{}", alternate.port()),
            "test I = 1",
            "test II = 1",
            "test III = 1",
            "test I(2) = 1",
            "Primary: Open",
        ],
    );
}
