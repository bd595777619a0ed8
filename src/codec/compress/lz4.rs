//! LZ4 blocks, in safe Rust. The table that finds repetitions is kept per thread: one for values below 64 KiB, one for longer.

use super::room;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use std::cell::RefCell;

thread_local! {
    static SHORT: RefCell<CompressTable> = RefCell::new(CompressTable::small());
    static LONG: RefCell<CompressTable> = RefCell::new(CompressTable::large());
}

pub fn compress(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + get_maximum_output_size(raw.len()), 0);
    let table = if raw.len() < usize::from(u16::MAX) { &SHORT } else { &LONG };
    match table.with_borrow_mut(|table| compress_into_with_table(raw, &mut out[start..], table)) {
        Ok(written) => {
            out.truncate(start + written);
            true
        }
        Err(_) => false,
    }
}

pub fn decompress(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut raw = room(length)?;
    raw.resize(length, 0);
    let written = decompress_into(packed, &mut raw).ok()?;
    (written == length).then_some(raw)
}
