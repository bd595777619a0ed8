//! Whole numbers of any size as two's complement, and the text of decimal numbers.

/// A number that fits MessagePack's own forms.
pub enum Small {
    /// Of 64 bits with a sign.
    Signed(i64),
    /// Beyond those, of 64 bits without.
    Unsigned(u64),
}

/// The number, if it has a form of MessagePack's own.
pub fn small(bytes: &[u8]) -> Option<Small> {
    let bytes = shortest_int(bytes);
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[16usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
    let number = i128::from_be_bytes(wide);
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => Some(Small::Signed(number)),
        (_, Ok(number)) => Some(Small::Unsigned(number)),
        _ => None,
    }
}

/// The same number without the bytes in front that only repeat its sign.
pub fn shortest_int(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let Some(second) = rest.first()
        && (*first == 0 && second & 0x80 == 0 || *first == 0xff && second & 0x80 != 0)
    {
        bytes = rest;
    }
    bytes
}

/// True if an extension that is a whole number is spelled as it has to be: no shorter form would do.
pub fn is_shortest_int(bytes: &[u8]) -> bool {
    bytes.len() > 8 && shortest_int(bytes).len() == bytes.len() && small(bytes).is_none()
}

/// True for what a decimal number's text can be: `-12.5E+3`, `Infinity`, `sNaN12`; no spaces, no underscores.
pub fn is_decimal(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if text == b"Infinity" {
        return true;
    }
    if let Some(payload) = text.strip_prefix(b"NaN").or_else(|| text.strip_prefix(b"sNaN")) {
        return digits(payload);
    }
    let (number, exponent) = match text.iter().position(|byte| *byte == b'E') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, part) = match number.iter().position(|byte| *byte == b'.') {
        Some(at) => (&number[..at], Some(&number[at + 1..])),
        None => (number, None),
    };
    let exponent_fits = exponent.is_none_or(|exponent| match exponent {
        [b'+' | b'-', rest @ ..] => !rest.is_empty() && digits(rest),
        _ => false,
    });
    !whole.is_empty() && digits(whole) && part.is_none_or(|part| !part.is_empty() && digits(part)) && exponent_fits
}
