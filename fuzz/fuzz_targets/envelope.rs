//! What a store has under a key: an envelope that was read is what would be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar::codec::envelope::Envelope;

fuzz_target!(|stored: &[u8]| {
    if let Ok((envelope, frame)) = Envelope::read(stored) {
        let mut out = Vec::new();
        envelope.write(frame, &mut out);
        assert_eq!(out, stored);
    }
});
