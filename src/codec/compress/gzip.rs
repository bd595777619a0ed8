//! Gzip at level 6, by zlib-rs: level 1 gains little on short values. What compresses, 200 kB of state, is kept per thread; what
//! decompresses, 48 kB, is made each time, as resetting it would do.

use super::room;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::RefCell;

const WINDOW_BITS: u8 = 15;
/// Head, checksum and length.
const FRAME: usize = 18;

thread_local! {
    static COMPRESSING: RefCell<Compress> = RefCell::new(Compress::new_gzip(Compression::new(6), WINDOW_BITS));
}

pub fn compress(raw: &[u8], out: &mut Vec<u8>) -> bool {
    // Room for what is kept; what would be longer is not.
    out.reserve(raw.len() + FRAME);
    COMPRESSING.with_borrow_mut(|state| {
        state.reset();
        matches!(state.compress_vec(raw, out, FlushCompress::Finish), Ok(Status::StreamEnd))
    })
}

pub fn decompress(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    // A byte more, so that what is longer shows.
    let mut raw = room(length.checked_add(1)?)?;
    let mut state = Decompress::new_gzip(WINDOW_BITS);
    let status = state.decompress_vec(packed, &mut raw, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd && state.total_in() == packed.len() as u64).then_some(raw)
}
