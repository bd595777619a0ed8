//! A trace in memory: keys in the order they were asked for, each with its size.
//!
//! The format is gzip'd text, a request a line, `key [size]`, keys numbered in order of first appearance.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Error, ErrorKind};
use std::path::Path;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who is asked for.
    pub key: u32,
    /// Bytes of the answer; 1 where the trace says nothing.
    pub size: u32,
}

/// Reads a whole trace.
pub fn read(path: &Path) -> io::Result<Vec<Request>> {
    BufReader::new(MultiGzDecoder::new(File::open(path)?))
        .lines()
        .enumerate()
        .map(|(number, line)| {
            let line = line?;
            parse(&line).ok_or_else(|| {
                let place = format!("{}:{}", path.display(), number + 1);
                Error::new(ErrorKind::InvalidData, format!("{place}: '{line}' is not `key [size]`"))
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<Request> {
    let mut fields = line.split_ascii_whitespace();
    let key = fields.next()?.parse().ok()?;
    let size = fields.next().map_or(Some(1), |field| field.parse().ok())?;
    fields.next().is_none().then_some(Request { key, size })
}

/// The same requests, every one of size 1.
pub fn of_unit_size(trace: &[Request]) -> Vec<Request> {
    trace.iter().map(|request| Request { size: 1, ..*request }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_key_and_perhaps_a_size() {
        assert_eq!(parse("7"), Some(Request { key: 7, size: 1 }));
        assert_eq!(parse("7 300"), Some(Request { key: 7, size: 300 }));
        for wrong in ["", "x", "7 x", "7 1 1", "-1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
