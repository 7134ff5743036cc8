//! A stream of DERP frames, as either side reads it.
//!
//! Input: a byte that says how the stream is cut into pieces, then the stream.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ztna_derp::frame::{Decoder, Frame, FrameError};

/// All frames of a stream that arrives in these pieces, and what ended it.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>, BytesMut) {
    let mut decoder = Decoder::default();
    let mut buf = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), BytesMut::new()),
            }
        }
    }
    (frames, None, buf)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else {
        return;
    };
    let whole = read(std::iter::once(stream));
    let pieces = read(stream.chunks(usize::from(cut).max(1)));
    assert!(whole == pieces, "the pieces change what is read");

    for frame in whole.0 {
        let bytes = frame.to_bytes();
        let (again, error, rest) = read(std::iter::once(&bytes[..]));
        assert_eq!(error, None, "{frame:?} cannot be read back");
        assert_eq!(again, [frame]);
        assert!(rest.is_empty());
        assert_eq!(again[0].to_bytes(), bytes);
    }
});
