//! Messages of the bus against the vectors in tests/vectors, which an independent writer made.

use samovar::core::coherence::message::{Message, Refusal, What};
use samovar::core::coherence::{How, Name, Origin};

fn bytes(hex: &str) -> Vec<u8> {
    let hex = if hex == "''" { "" } else { hex };
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn messages_are_read_and_written_as_the_vectors_say() {
    let text = include_str!("vectors/bus.tsv");
    let mut count = 0;
    for line in text.lines().skip(2) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, outcome, origin, number, stamp, how, names, key, message] = fields[..] else { panic!("{line}") };
        let (message, read) = (bytes(message), Message::from_bytes(&bytes(message)));
        let expected = match outcome {
            "foreign" => Err(Refusal::Foreign),
            "malformed" => Err(Refusal::Malformed),
            _ => {
                let list = names.split(',').filter(|name| *name != "''");
                let what = match how {
                    "-" => What::Changed { key: bytes(key) },
                    how => What::Moved {
                        names: list.map(|name| Name::from_bytes(&bytes(name)).unwrap()).collect(),
                        how: if how == "0" { How::Gone } else { How::Stale },
                    },
                };
                let origin = Origin(u128::from_str_radix(origin, 16).unwrap());
                Ok(Message { origin, number: number.parse().unwrap(), stamp: stamp.parse().unwrap(), what })
            }
        };
        assert_eq!(read, expected, "{name}");
        if let Ok(read) = read {
            assert_eq!(read.to_bytes(), Some(message), "{name}");
        }
        count += 1;
    }
    assert_eq!(count, 20);
}
