//! Zstandard at level 1, with one context to compress and one to decompress per thread, used with whatever dictionary.

use super::super::dictionary::Dictionary;
use super::room;
use std::cell::RefCell;
use std::io::Cursor;
use std::mem;
use zstd::zstd_safe::{self, CCtx, DCtx};

/// The level: the fastest that halves text. See docs/decisions.md.
pub const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSING: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSING: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

type Tail = Cursor<Vec<u8>>;

pub fn compress(raw: &[u8], out: &mut Vec<u8>) -> bool {
    appended(raw, out, |context, tail| context.compress(tail, raw, LEVEL))
}

/// The same with a dictionary, made for [`LEVEL`].
pub fn compress_with(dictionary: &Dictionary, raw: &[u8], out: &mut Vec<u8>) -> bool {
    appended(raw, out, |context, tail| context.compress_using_cdict(tail, raw, dictionary.to_compress()))
}

fn appended(
    raw: &[u8],
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut CCtx<'static>, &mut Tail) -> zstd_safe::SafeResult,
) -> bool {
    out.reserve(zstd_safe::compress_bound(raw.len()));
    let mut tail = Cursor::new(mem::take(out));
    tail.set_position(tail.get_ref().len() as u64);
    let done = COMPRESSING.with_borrow_mut(|context| write(context, &mut tail));
    *out = tail.into_inner();
    done.is_ok()
}

pub fn decompress(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    read(packed, length, |context, raw| context.decompress(raw, packed))
}

/// The same for what was compressed with a dictionary.
pub fn decompress_with(dictionary: &Dictionary, packed: &[u8], length: usize) -> Option<Vec<u8>> {
    read(packed, length, |context, raw| context.decompress_using_ddict(raw, packed, dictionary.to_decompress()))
}

fn read(
    packed: &[u8],
    length: usize,
    read: impl FnOnce(&mut DCtx<'static>, &mut Vec<u8>) -> zstd_safe::SafeResult,
) -> Option<Vec<u8>> {
    // What compresses in one go says how long it is; what does not say so, or says something else, was not written by us.
    if !matches!(zstd_safe::get_frame_content_size(packed), Ok(Some(said)) if said == length as u64) {
        return None;
    }
    let mut raw = room(length)?;
    DECOMPRESSING.with_borrow_mut(|context| read(context, &mut raw)).ok()?;
    Some(raw)
}
