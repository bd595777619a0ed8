//! The standard library's value types: telling them, taking them apart, making them. Imported with the first value that is no
//! builtin.

use super::path::{Bad, type_name};
use crate::codec::msgpack::{Date, DateTime, Delta, Time, Zone, is_zone_key};
use pyo3::prelude::*;
use pyo3::types::{
    PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyString, PyTime, PyTimeAccess, PyTuple, PyType,
    PyTzInfo, PyTzInfoAccess,
};
use std::borrow::Cow;

/// See the module.
pub struct Library {
    /// `decimal.Decimal`.
    pub decimal: Py<PyType>,
    /// `uuid.UUID`.
    pub uuid: Py<PyType>,
    enum_meta: Py<PyType>,
    timezone: Py<PyType>,
    utc: Py<PyAny>,
    zone_info: Py<PyType>,
}

/// The offsets that pydantic gives moments it has read: no class of the standard library, and equal to one.
const PYDANTICS: &str = "pydantic_core._pydantic_core.TzInfo";

type Taken<T> = Result<T, Box<Bad>>;

impl Library {
    /// Imports what it needs.
    pub fn new(py: Python<'_>) -> PyResult<Library> {
        let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
            Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        let timezone = class("datetime", "timezone")?;
        Ok(Library {
            decimal: class("decimal", "Decimal")?,
            uuid: class("uuid", "UUID")?,
            enum_meta: class("enum", "EnumMeta")?,
            utc: timezone.bind(py).getattr("utc")?.unbind(),
            timezone,
            zone_info: class("zoneinfo", "ZoneInfo")?,
        })
    }

    /// True for a member of an enumeration.
    pub fn is_member(&self, object: &Bound<'_, PyAny>) -> bool {
        object.get_type().is_instance(self.enum_meta.bind(object.py())).unwrap_or(false)
    }

    /// What a datetime is made of.
    pub fn datetime(&self, moment: &Bound<'_, PyDateTime>) -> Taken<DateTime<'static>> {
        let zone = self.zone(moment.get_tzinfo())?;
        Ok(DateTime { date: date(moment), time: time(moment, zone) })
    }

    /// What a time of day is made of.
    pub fn time(&self, moment: &Bound<'_, PyTime>) -> Taken<Time<'static>> {
        Ok(time(moment, self.zone(moment.get_tzinfo())?))
    }

    fn zone(&self, zone: Option<Bound<'_, PyTzInfo>>) -> Taken<Zone<'static>> {
        let Some(zone) = zone else { return Ok(Zone::None) };
        let py = zone.py();
        let class = zone.get_type();
        if zone.is(&self.utc) {
            Ok(Zone::Utc)
        } else if class.is(&self.timezone) {
            let parts = zone.call_method0("__getinitargs__")?.cast_into::<PyTuple>().map_err(PyErr::from)?;
            let offset = parts.get_item(0)?.cast_into::<PyDelta>().map_err(PyErr::from)?;
            let name = parts.get_item(1).ok().map(|name| name.extract::<String>()).transpose()?;
            Ok(Zone::Fixed { micros: micros(&offset), name: name.map(Cow::Owned) })
        } else if class.is(&self.zone_info) {
            match zone.getattr("key")?.extract::<Option<String>>()? {
                Some(key) if is_zone_key(&key) => Ok(Zone::Named(Cow::Owned(key))),
                _ => Err(Bad::is(
                    "a ZoneInfo without a key, which nobody else could find; make it by zoneinfo.ZoneInfo(key)",
                )),
            }
        } else {
            match type_name(&zone).as_str() {
                PYDANTICS => {
                    let offset = zone.call_method1("utcoffset", (py.None(),))?;
                    let micros = micros(offset.cast::<PyDelta>().map_err(PyErr::from)?);
                    Ok(if micros == 0 { Zone::Utc } else { Zone::Fixed { micros, name: None } })
                }
                name => Err(Bad::is(format!(
                    "a zone of type {name}; use zoneinfo.ZoneInfo(key) or datetime.timezone(offset)"
                ))),
            }
        }
    }

    fn make_zone<'py>(&self, py: Python<'py>, zone: &Zone<'_>) -> PyResult<Option<Bound<'py, PyTzInfo>>> {
        let made = match zone {
            Zone::None => return Ok(None),
            Zone::Utc => self.utc.bind(py).clone(),
            Zone::Fixed { micros, name } => {
                let (days, rest) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
                let offset =
                    PyDelta::new(py, days as i32, (rest / 1_000_000) as i32, (rest % 1_000_000) as i32, false)?;
                match name {
                    Some(name) => self.timezone.bind(py).call1((offset, name.as_ref()))?,
                    None => self.timezone.bind(py).call1((offset,))?,
                }
            }
            Zone::Named(key) => self.zone_info.bind(py).call1((key.as_ref(),))?,
        };
        Ok(Some(made.cast_into::<PyTzInfo>()?))
    }

    /// A datetime.
    pub fn make_datetime<'py>(&self, py: Python<'py>, moment: &DateTime<'_>) -> PyResult<Bound<'py, PyAny>> {
        let DateTime { date, time } = moment;
        let zone = self.make_zone(py, &time.zone)?;
        let made = PyDateTime::new_with_fold(
            py,
            i32::from(date.year),
            date.month,
            date.day,
            time.hour,
            time.minute,
            time.second,
            time.micro,
            zone.as_ref(),
            time.fold,
        )?;
        Ok(made.into_any())
    }

    /// A time of day.
    pub fn make_time<'py>(&self, py: Python<'py>, time: &Time<'_>) -> PyResult<Bound<'py, PyAny>> {
        let zone = self.make_zone(py, &time.zone)?;
        let zone = zone.as_ref();
        let made = PyTime::new_with_fold(py, time.hour, time.minute, time.second, time.micro, zone, time.fold)?;
        Ok(made.into_any())
    }

    /// A decimal number's text, which a context may have in small letters.
    pub fn decimal_text(&self, number: &Bound<'_, PyAny>) -> PyResult<String> {
        let text: Bound<'_, PyString> = number.str()?;
        Ok(text.to_str()?.replace('e', "E"))
    }
}

fn micros(offset: &Bound<'_, PyDelta>) -> i64 {
    let seconds = i64::from(offset.get_days()) * 86_400 + i64::from(offset.get_seconds());
    seconds * 1_000_000 + i64::from(offset.get_microseconds())
}

/// What a date is made of.
pub fn date(date: &impl PyDateAccess) -> Date {
    Date { year: date.get_year() as u16, month: date.get_month(), day: date.get_day() }
}

fn time(time: &impl PyTimeAccess, zone: Zone<'static>) -> Time<'static> {
    Time {
        hour: time.get_hour(),
        minute: time.get_minute(),
        second: time.get_second(),
        micro: time.get_microsecond(),
        fold: time.get_fold(),
        zone,
    }
}

/// What a span of time is made of.
pub fn delta(delta: &Bound<'_, PyDelta>) -> Delta {
    let (seconds, micros) = (delta.get_seconds() as u32, delta.get_microseconds() as u32);
    Delta { days: delta.get_days(), seconds, micros }
}

/// A date.
pub fn make_date<'py>(py: Python<'py>, date: Date) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyDate::new(py, i32::from(date.year), date.month, date.day)?.into_any())
}

/// A span of time.
pub fn make_delta<'py>(py: Python<'py>, delta: Delta) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyDelta::new(py, delta.days, delta.seconds as i32, delta.micros as i32, false)?.into_any())
}
