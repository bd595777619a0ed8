//! Every decompressor: the length that was asked for, or a refusal. `COMPRESSOR` names one; without it the first byte does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar::codec::compress::Compressor;
use std::sync::LazyLock;

static ONE: LazyLock<Option<Compressor>> = LazyLock::new(|| {
    let name = std::env::var("COMPRESSOR").ok()?;
    Some(Compressor::ALL.into_iter().find(|compressor| compressor.name() == name).expect("COMPRESSOR names one"))
});

fuzz_target!(|bytes: &[u8]| {
    let Some(([which, high, low], packed)) = bytes.split_first_chunk() else { return };
    let compressor = ONE.unwrap_or(Compressor::ALL[usize::from(which % 4)]);
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if let Ok(raw) = compressor.decompress(packed, length) {
        assert_eq!(raw.len(), length);
    }
});
