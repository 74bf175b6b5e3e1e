//! [`Line`]: one line of a journal with its checksum, and the head that identifies the format.

use std::{error, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Record, RunRecord};

/// Line of a journal: a record of an attempt or of a run.
///
/// Each line is a JSON object. Its last field `crc` contains the CRC-32 of the object without this field, as
/// eight hexadecimal digits. The checksum detects changes after which a line is still valid JSON.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Step(Record),
    Run(RunRecord),
}

/// Version of the format. Version 1 had no head and no checksums, and its client tokens did not depend on the
/// pipeline and the target.
const FORMAT: u32 = 2;

/// First line of a file or an object. Identifies the format.
#[derive(Serialize, Deserialize)]
pub(crate) struct Head {
    format: u32,
    /// Random identifier of the process that wrote the object. `None` in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
}

/// Reason why a line is rejected.
#[derive(Debug)]
pub(crate) enum BadLine {
    /// The journal has an earlier format.
    Old,
    /// The journal has a later format.
    New(u32),
    /// The line ends with CR LF, and is valid without the CR.
    CarriageReturn,
    /// The checksum does not match.
    Checksum,
    /// The line is not a record.
    Json(serde_json::Error),
}

impl BadLine {
    /// Returns a message with the problem and a remedy.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Old => {
                "the journal was written by an earlier version, whose client tokens differ: finish or settle its runs with that version, then \
                 begin a new journal under another name"
            }
            Self::New(_) => "the journal was written by a later version; use that version",
            Self::CarriageReturn => {
                "the lines end with CR LF, as an editor or a version control system may have changed them; convert the file to LF"
            }
            Self::Checksum | Self::Json(_) => {
                "a line is damaged; restore the journal from a backup, or check the effects of its runs and begin a new journal under another name"
            }
        }
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old => f.write_str("format 1"),
            Self::New(format) => write!(f, "format {format}"),
            Self::CarriageReturn => f.write_str("the line ends with CR LF"),
            Self::Checksum => f.write_str("the checksum does not match"),
            Self::Json(error) => error.fmt(f),
        }
    }
}

impl error::Error for BadLine {}

impl From<serde_json::Error> for BadLine {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl Head {
    /// Creates the head of a file, or of the objects of one process.
    pub(crate) fn new(writer: Option<String>) -> Self {
        Self { format: FORMAT, writer }
    }

    /// Appends the head and a newline.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> serde_json::Result<()> {
        seal(bytes, |bytes| serde_json::to_writer(bytes, self))
    }

    /// Checks the first line of a file or an object. `line` does not include the newline.
    pub(crate) fn check(line: &[u8]) -> Result<(), BadLine> {
        #[derive(Deserialize)]
        struct Any {
            format: Option<u32>,
            // In format 1, the first line of a file was a record, and the first line of an object contained
            // only the writer.
            event: Option<serde::de::IgnoredAny>,
            writer: Option<serde::de::IgnoredAny>,
        }
        let any: Any = serde_json::from_slice(line)?;
        match any.format {
            None if any.event.is_some() || any.writer.is_some() => Err(BadLine::Old),
            Some(format) if format > FORMAT => Err(BadLine::New(format)),
            _ => {
                check_seal(line)?;
                serde_json::from_slice::<Self>(line)?;
                Ok(())
            }
        }
    }
}

impl Line {
    /// Returns the time and the run of the record.
    pub(crate) fn of(&self) -> (Timestamp, &str) {
        match self {
            Self::Step(record) => (record.at, &record.key.run),
            Self::Run(record) => (record.at, &record.run),
        }
    }

    /// Returns the run of a line, or `None` for the head. Does not verify the checksum.
    pub(crate) fn run_of(line: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Of {
            run: String,
        }
        serde_json::from_slice(line).ok().map(|Of { run }| run)
    }

    /// Parses a line and verifies its checksum. `line` does not include the newline.
    pub(crate) fn read(line: &[u8]) -> Result<Self, BadLine> {
        #[derive(Deserialize)]
        struct Which {
            event: String,
        }
        check_seal(line)?;
        let Which { event } = serde_json::from_slice(line)?;
        Ok(match event.starts_with("run-") {
            true => Self::Run(serde_json::from_slice(line)?),
            false => Self::Step(serde_json::from_slice(line)?),
        })
    }

    /// Appends the line and a newline.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> serde_json::Result<()> {
        seal(bytes, |bytes| match self {
            Self::Step(record) => serde_json::to_writer(bytes, record),
            Self::Run(record) => serde_json::to_writer(bytes, record),
        })
    }
}

/// Length of `,"crc":"00000000"}`.
const SEAL: usize = 18;

/// Appends an object with its checksum and a newline. After an error, `bytes` is unchanged.
fn seal(
    bytes: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    let mut object = Vec::new();
    write(&mut object)?;
    let seal = format!(",\"crc\":\"{:08x}\"}}\n", crc32fast::hash(&object));
    object.pop();
    bytes.extend(object);
    bytes.extend(seal.into_bytes());
    Ok(())
}

fn check_seal(line: &[u8]) -> Result<(), BadLine> {
    let (object, seal) = line.split_at_checked(line.len().wrapping_sub(SEAL)).ok_or(BadLine::Checksum)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(object);
    crc.update(b"}");
    match seal == format!(",\"crc\":\"{:08x}\"}}", crc.finalize()).as_bytes() {
        true => Ok(()),
        false => match line.strip_suffix(b"\r") {
            Some(line) if check_seal(line).is_ok() => Err(BadLine::CarriageReturn),
            _ => Err(BadLine::Checksum),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        StatementId, StepKey,
        journal::{Event, RunEvent, RunOutcome},
    };

    fn lines() -> Vec<Line> {
        let at = "2026-11-23T06:30:00Z".parse().unwrap();
        let event = Event::Submitted { id: StatementId::new("d9b6c0c9-0747-4bf4-b142-e8883122f766") };
        let ended = RunEvent::RunEnded { result: RunOutcome::Finished };
        vec![
            Line::Step(Record { at, key: StepKey::new("r", "a"), event }),
            Line::Run(RunRecord { at, run: "r".into(), event: ended }),
        ]
    }

    /// Regression: a changed digit in a stored id was not detected.
    #[test]
    fn any_changed_byte_is_detected() {
        for line in lines() {
            let mut bytes = Vec::new();
            line.write(&mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(b'\n'));
            assert_eq!(format!("{:?}", Line::read(&bytes).unwrap()), format!("{line:?}"));
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    assert!(Line::read(&changed).is_err(), "bit {bit} of byte {at}");
                }
                assert!(Line::read(&bytes[..at]).is_err(), "cut at byte {at}");
            }
        }
    }

    #[test]
    fn the_former_name_of_an_event_is_read() {
        let event: Event = serde_json::from_str(r#"{"event":"refused","error":"not sent"}"#).unwrap();
        assert_eq!(event, Event::NotSubmitted { error: "not sent".into() });
        assert!(serde_json::to_string(&event).unwrap().contains("\"not-submitted\""));
    }

    #[test]
    fn heads_of_other_formats_are_distinguished_from_damage() {
        let mut head = Vec::new();
        Head::new(Some("w".into())).write(&mut head).unwrap();
        assert_eq!(String::from_utf8_lossy(&head), "{\"format\":2,\"writer\":\"w\",\"crc\":\"9281ac34\"}\n");
        assert!(Head::check(head.trim_ascii_end()).is_ok());
        let advice = |head: &str| Head::check(head.as_bytes()).unwrap_err().to_string();
        let old =
            r#"{"at":"2026-11-23T06:30:00Z","run":"r","step":"a","attempt":1,"event":"submitted","id":"x"}"#;
        assert_eq!(advice(old), "format 1");
        assert_eq!(advice(r#"{"writer":"0123456789abcdef"}"#), "format 1");
        assert_eq!(advice(r#"{"format":3,"layout":"tree"}"#), "format 3");
        assert_eq!(advice(r#"{"format":2,"crc":"00000000"}"#), "the checksum does not match");
        assert_eq!(advice("{}"), "the checksum does not match");
        assert!(matches!(Head::check(b"\0\0\0\0"), Err(BadLine::Json(_))));
    }
}
