//! Snappy blocks, in Rust. The table that finds repetitions is kept per thread; a decoder has no state.

use super::room;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};
use std::cell::RefCell;

thread_local! {
    static COMPRESSING: RefCell<Encoder> = RefCell::new(Encoder::new());
}

pub fn compress(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + max_compress_len(raw.len()), 0);
    match COMPRESSING.with_borrow_mut(|encoder| encoder.compress(raw, &mut out[start..])) {
        Ok(written) => {
            out.truncate(start + written);
            true
        }
        Err(_) => false,
    }
}

pub fn decompress(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    if decompress_len(packed).ok()? != length {
        return None;
    }
    let mut raw = room(length)?;
    raw.resize(length, 0);
    let written = Decoder::new().decompress(packed, &mut raw).ok()?;
    (written == length).then_some(raw)
}
