//! The first request on a connection to the relay.
//!
//! Input: a byte that says how much of it comes first, in 256ths; then the request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ztna_derp::server::{Wants, classify};

fuzz_target!(|data: &[u8]| {
    let Some((&cut, request)) = data.split_first() else {
        return;
    };
    let wants = classify(request);
    let early = classify(&request[..request.len() * usize::from(cut) / 256]);
    // What is clear once is not changed by what follows, which is another protocol's.
    assert!(
        early == Wants::Unclear || early == wants,
        "{early:?}, then {wants:?}"
    );
    if let Wants::Relay { head, .. } = wants {
        assert!(request[..head].ends_with(b"\n"));
        assert_eq!(classify(&request[..head]), wants);
        assert_eq!(classify(&request[..head - 1]), Wants::Unclear);
    }
});
