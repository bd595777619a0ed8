//! Dates, times, spans and zones: what they are on the wire, and that they are in range.

use std::borrow::Cow;

/// A day of the proleptic Gregorian calendar, from year 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to the length of the month.
    pub day: u8,
}

/// A time of day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Time<'a> {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Microseconds, 0 to 999 999.
    pub micro: u32,
    /// The second of two equal readings of the clock, when it was set back (PEP 495).
    pub fold: bool,
    /// Where the clock hangs.
    pub zone: Zone<'a>,
}

/// A date with a time of day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DateTime<'a> {
    /// The day.
    pub date: Date,
    /// The time, with fold and zone.
    pub time: Time<'a>,
}

/// A span of time, as Python normalises it: only the days have a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delta {
    /// Up to 999 999 999 either way.
    pub days: i32,
    /// 0 to 86 399.
    pub seconds: u32,
    /// 0 to 999 999.
    pub micros: u32,
}

/// How far a clock is from UTC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Zone<'a> {
    /// Nobody says.
    None,
    /// Not at all.
    Utc,
    /// Always as far: microseconds, less than a day either way, and maybe a name.
    Fixed {
        /// East of Greenwich is positive.
        micros: i64,
        /// What the offset is called, if it has been given a name.
        name: Option<Cow<'a, str>>,
    },
    /// As the IANA database says under this key.
    Named(Cow<'a, str>),
}

const DAY_MICROS: i64 = 86_400_000_000;
/// Longer keys than this are in no database.
const KEY_LENGTH: usize = 255;

impl Date {
    /// A date, if there is such a day.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Date> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let length = match month {
            2 => 28 + u8::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        ((1..=9999).contains(&year) && (1..=length).contains(&day)).then_some(Date { year, month, day })
    }

    /// Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    pub fn days(self) -> i64 {
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let month = i64::from((self.month + 9) % 12);
        let in_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let of_era = year.rem_euclid(400);
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + in_year - 719_468
    }

    /// The date that many days after 1970-01-01; `None` outside of years 1 to 9999.
    pub fn from_days(days: i64) -> Option<Date> {
        let days = days.checked_add(719_468)?;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let in_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * in_year + 2) / 153;
        let day = in_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Date::new(u16::try_from(year).ok()?, month as u8, day as u8)
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.year.to_be_bytes());
        out.extend_from_slice(&[self.month, self.day]);
    }

    /// Reads what an extension of type `DATE` holds.
    pub fn read(bytes: &[u8]) -> Option<Date> {
        match bytes {
            [high, low, month, day] => Date::new(u16::from_be_bytes([*high, *low]), *month, *day),
            _ => None,
        }
    }
}

impl<'a> Time<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.hour, self.minute, self.second]);
        out.extend_from_slice(&self.micro.to_be_bytes()[1..]);
        out.push(u8::from(self.fold));
        self.zone.write(out);
    }

    /// Reads what an extension of type `TIME` holds.
    pub fn read(bytes: &'a [u8]) -> Option<Time<'a>> {
        let (head, zone) = bytes.split_first_chunk::<7>()?;
        let [hour, minute, second, high, middle, low, fold] = *head;
        let micro = u32::from_be_bytes([0, high, middle, low]);
        let fits = hour < 24 && minute < 60 && second < 60 && micro < 1_000_000 && fold < 2;
        fits.then_some(())?;
        Some(Time { hour, minute, second, micro, fold: fold == 1, zone: Zone::read(zone)? })
    }

    /// The same without a tie to the bytes it was read from.
    pub fn into_owned(self) -> Time<'static> {
        let zone = match self.zone {
            Zone::None => Zone::None,
            Zone::Utc => Zone::Utc,
            Zone::Fixed { micros, name } => {
                Zone::Fixed { micros, name: name.map(|name| Cow::Owned(name.into_owned())) }
            }
            Zone::Named(key) => Zone::Named(Cow::Owned(key.into_owned())),
        };
        Time { zone, ..self }
    }

    fn micros(&self) -> i64 {
        let seconds = (i64::from(self.hour) * 60 + i64::from(self.minute)) * 60 + i64::from(self.second);
        seconds * 1_000_000 + i64::from(self.micro)
    }
}

impl<'a> DateTime<'a> {
    /// The same without a tie to the bytes it was read from.
    pub fn into_owned(self) -> DateTime<'static> {
        DateTime { date: self.date, time: self.time.into_owned() }
    }

    /// Reads what an extension of type `DATETIME` holds.
    pub fn read(bytes: &'a [u8]) -> Option<DateTime<'a>> {
        let (date, time) = bytes.split_first_chunk::<4>()?;
        let moment = DateTime { date: Date::read(date)?, time: Time::read(time)? };
        // UTC has a form of its own.
        moment.timestamp().is_none().then_some(moment)
    }

    /// Reads what an extension of type `TIMESTAMP` holds: a moment in UTC. Nanoseconds are cut to microseconds.
    pub fn read_timestamp(bytes: &[u8]) -> Option<DateTime<'static>> {
        let (seconds, nanos) = match *bytes {
            [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
            [a, b, c, d, e, f, g, h] => {
                let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                ((both & ((1 << 34) - 1)) as i64, (both >> 34) as u32)
            }
            [a, b, c, d, e, f, g, h, i, j, k, l] => {
                (i64::from_be_bytes([e, f, g, h, i, j, k, l]), u32::from_be_bytes([a, b, c, d]))
            }
            _ => return None,
        };
        DateTime::from_timestamp(seconds, nanos)
    }

    /// The moment in UTC that many seconds after 1970; `None` outside of years 1 to 9999. Nanoseconds are cut to microseconds.
    pub fn from_timestamp(seconds: i64, nanos: u32) -> Option<DateTime<'static>> {
        let date = Date::from_days(seconds.div_euclid(86_400))?;
        let rest = seconds.rem_euclid(86_400);
        (nanos < 1_000_000_000).then_some(())?;
        let (hour, minute, second) = ((rest / 3600) as u8, (rest / 60 % 60) as u8, (rest % 60) as u8);
        Some(DateTime { date, time: Time { hour, minute, second, micro: nanos / 1000, fold: false, zone: Zone::Utc } })
    }

    /// Seconds since 1970 and nanoseconds, for what is written so: a moment in UTC without a fold.
    pub fn timestamp(&self) -> Option<(i64, u32)> {
        if self.time.zone != Zone::Utc || self.time.fold {
            return None;
        }
        let seconds = self.date.days() * 86_400 + self.time.micros() / 1_000_000;
        Some((seconds, self.time.micro * 1000))
    }
}

impl Delta {
    /// A span, if its parts are in range.
    pub fn new(days: i32, seconds: u32, micros: u32) -> Option<Delta> {
        let fits = days.unsigned_abs() <= 999_999_999 && seconds < 86_400 && micros < 1_000_000;
        fits.then_some(Delta { days, seconds, micros })
    }

    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.days.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&self.micros.to_be_bytes());
        bytes
    }

    /// Reads what an extension of type `DELTA` holds.
    pub fn read(bytes: &[u8]) -> Option<Delta> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *<&[u8; 12]>::try_from(bytes).ok()?;
        let days = i32::from_be_bytes([a, b, c, d]);
        Delta::new(days, u32::from_be_bytes([e, f, g, h]), u32::from_be_bytes([i, j, k, l]))
    }
}

impl<'a> Zone<'a> {
    fn read(bytes: &'a [u8]) -> Option<Zone<'a>> {
        let Some((kind, rest)) = bytes.split_first() else { return Some(Zone::None) };
        match kind {
            0 if rest.is_empty() => Some(Zone::Utc),
            1 | 2 => {
                let (micros, name) = rest.split_first_chunk::<8>()?;
                let micros = i64::from_be_bytes(*micros);
                let name = std::str::from_utf8(name).ok()?;
                // An offset of nothing without a name is UTC, which has a form of its own.
                let fits =
                    micros.unsigned_abs() < DAY_MICROS as u64 && (*kind == 2 || (name.is_empty() && micros != 0));
                fits.then(|| Zone::Fixed { micros, name: (*kind == 2).then_some(Cow::Borrowed(name)) })
            }
            3 => {
                let key = std::str::from_utf8(rest).ok()?;
                is_zone_key(key).then_some(Zone::Named(Cow::Borrowed(key)))
            }
            _ => None,
        }
    }
}

/// True for what a key of the IANA database can be: names below each other, none of which leads elsewhere.
pub fn is_zone_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-');
    key.len() <= KEY_LENGTH && key.split('/').all(|part| !part.is_empty() && part.bytes().all(plain))
}
