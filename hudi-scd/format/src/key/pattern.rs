//! Date patterns of Joda-Time, which Hudi's timestamp-based key generator uses for formatting and parsing.
//! They resemble the patterns of `SimpleDateFormat`, but some letters differ.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime, Time},
    tz::{Offset, TimeZone},
};

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    /// A letter and its number of repetitions.
    Field(char, usize),
}

/// The letters that can be formatted.
const LETTERS: &str = "GCYxweEyDMdaKhHkmsSzZ";
/// The letters that can be parsed.
const READ_LETTERS: &str = "yYMdHkhKmsSaEZ";
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Pattern {
    /// Parses a pattern for formatting. Returns its first unsupported letter as an error.
    pub(super) fn to_write(text: &str) -> Result<Self, char> {
        Self::parse(text, |letter, _| LETTERS.contains(letter))
    }

    /// Parses a pattern for parsing. Returns its first unsupported letter as an error.
    pub(super) fn to_read(text: &str) -> Result<Self, char> {
        // The century of a two-digit year would depend on the current date.
        Self::parse(text, |letter, count| {
            READ_LETTERS.contains(letter) && !(matches!(letter, 'y' | 'Y') && count == 2)
        })
    }

    fn parse(text: &str, is_known: impl Fn(char, usize) -> bool) -> Result<Self, char> {
        let mut tokens: Vec<Token> = Vec::new();
        let push_text = |tokens: &mut Vec<Token>, character: char| match tokens.last_mut() {
            Some(Token::Text(text)) => text.push(character),
            _ => tokens.push(Token::Text(character.to_string())),
        };
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\'' if characters.next_if_eq(&'\'').is_some() => push_text(&mut tokens, '\''),
                '\'' => {
                    while let Some(quoted) = characters.next() {
                        match quoted {
                            '\'' if characters.next_if_eq(&'\'').is_none() => break,
                            quoted => push_text(&mut tokens, quoted),
                        }
                    }
                }
                letter if letter.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while characters.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                    tokens.push(Token::Field(letter, count));
                }
                other => push_text(&mut tokens, other),
            }
        }
        for token in &tokens {
            if let Token::Field(letter, count) = token
                && !is_known(*letter, *count)
            {
                return Err(*letter);
            }
        }
        Ok(Self { tokens })
    }

    /// Formats a point in time, in the given zone, by the pattern.
    pub(super) fn format(&self, moment: Timestamp, zone: &TimeZone) -> String {
        let time = moment.to_zoned(zone.clone());
        let (date, info) = (time.date(), zone.to_offset_info(moment));
        let mut out = String::new();
        for token in &self.tokens {
            let (letter, count) = match token {
                Token::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Token::Field(letter, count) => (*letter, *count),
            };
            let hour = i64::from(time.hour());
            let number = match letter {
                'y' => i64::from(date.year()),
                'Y' => i64::from(if date.year() > 0 { date.year() } else { 1 - date.year() }),
                'x' => i64::from(date.iso_week_date().year()),
                'C' => i64::from(date.year() / 100),
                'w' => i64::from(date.iso_week_date().week()),
                'e' => i64::from(date.weekday().to_monday_one_offset()),
                'D' => i64::from(date.day_of_year()),
                'M' if count < 3 => i64::from(date.month()),
                'd' => i64::from(date.day()),
                'K' => hour % 12,
                'h' => (hour + 11) % 12 + 1,
                'H' => hour,
                'k' => (hour + 23) % 24 + 1,
                'm' => i64::from(time.minute()),
                's' => i64::from(time.second()),
                'S' => {
                    let nanos = format!("{:09}", time.subsec_nanosecond());
                    let digits = nanos.len().min(count);
                    out.push_str(&nanos[..digits]);
                    out.extend(std::iter::repeat_n('0', count - digits));
                    continue;
                }
                'M' => {
                    out.push_str(short(MONTHS[date.month() as usize - 1], count));
                    continue;
                }
                'E' => {
                    out.push_str(short(DAYS[date.weekday().to_monday_zero_offset() as usize], count));
                    continue;
                }
                'a' => {
                    out.push_str(if hour < 12 { "AM" } else { "PM" });
                    continue;
                }
                'G' => {
                    out.push_str(if date.year() > 0 { "AD" } else { "BC" });
                    continue;
                }
                'z' => {
                    out.push_str(info.abbreviation());
                    continue;
                }
                _ if count >= 3 => {
                    out.push_str(zone.iana_name().unwrap_or("UTC"));
                    continue;
                }
                _ => {
                    let minutes = info.offset().seconds() / 60;
                    let sign = if minutes < 0 { '-' } else { '+' };
                    let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
                    let colon = if count == 2 { ":" } else { "" };
                    out.push_str(&format!("{sign}{hours:02}{colon}{minutes:02}"));
                    continue;
                }
            };
            if matches!(letter, 'y' | 'Y' | 'x') && count == 2 {
                out.push_str(&format!("{:02}", number.rem_euclid(100)));
            } else {
                let sign = if number < 0 { "-" } else { "" };
                out.push_str(&format!("{sign}{:0count$}", number.abs()));
            }
        }
        out
    }

    /// Parses text by the pattern. `zone` applies if the text does not name a zone.
    pub(super) fn read(&self, text: &str, zone: &TimeZone) -> Option<Timestamp> {
        let mut said = Said::default();
        let mut rest = text;
        for (index, token) in self.tokens.iter().enumerate() {
            let (letter, count) = match token {
                Token::Text(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Token::Field(letter, count) => (*letter, *count),
            };
            rest = match letter {
                'M' if count >= 3 => name(rest, &MONTHS, |month| said.month = month + 1)?,
                'E' => name(rest, &DAYS, |_| {})?,
                'a' => {
                    let half = rest.get(..2)?;
                    said.afternoon = Some(match half.to_ascii_uppercase().as_str() {
                        "AM" => false,
                        "PM" => true,
                        _ => return None,
                    });
                    &rest[2..]
                }
                'Z' => offset(rest, &mut said.offset)?,
                'S' => {
                    let digits = digits(rest, count)?;
                    said.nanos = format!("{digits:0<9}").get(..9)?.parse().ok()?;
                    &rest[digits.len()..]
                }
                _ => {
                    // Adjacent digits are separated by the length of each field.
                    let followed = matches!(self.tokens.get(index + 1), Some(Token::Field(next, n))
                        if !(matches!(next, 'a' | 'E' | 'Z') || *next == 'M' && *n >= 3));
                    let most = match letter {
                        _ if followed => count,
                        'y' | 'Y' => 9,
                        _ => 2.max(count),
                    };
                    let digits = digits(rest, most)?;
                    said.set(letter, digits.parse().ok()?);
                    &rest[digits.len()..]
                }
            };
        }
        if rest.is_empty() { said.moment(zone) } else { None }
    }
}

/// The fields that were parsed from a text.
struct Said {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    half_hour: Option<i8>,
    afternoon: Option<bool>,
    minute: i8,
    second: i8,
    nanos: i32,
    offset: Option<Offset>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            year: 1970,
            month: 1,
            day: 1,
            hour: 0,
            half_hour: None,
            afternoon: None,
            minute: 0,
            second: 0,
            nanos: 0,
            offset: None,
        }
    }
}

impl Said {
    fn set(&mut self, letter: char, number: i16) {
        // A number out of range is replaced by one that is rejected when the fields are combined.
        let small = i8::try_from(number).unwrap_or(-1);
        match letter {
            'y' | 'Y' => self.year = number,
            'M' => self.month = small,
            'd' => self.day = small,
            'H' => self.hour = small,
            'k' => self.hour = if small == 24 { 0 } else { small },
            'K' => self.half_hour = Some(small),
            'h' => self.half_hour = Some(if small == 12 { 0 } else { small }),
            'm' => self.minute = small,
            _ => self.second = small,
        }
    }

    fn moment(self, zone: &TimeZone) -> Option<Timestamp> {
        let hour = match self.half_hour {
            Some(hour) if (0..12).contains(&hour) => hour + if self.afternoon? { 12 } else { 0 },
            Some(_) => return None,
            None => self.hour,
        };
        let date = Date::new(self.year, self.month, self.day).ok()?;
        let time = Time::new(hour, self.minute, self.second, self.nanos).ok()?;
        let civil = DateTime::from_parts(date, time);
        match self.offset {
            Some(offset) => offset.to_timestamp(civil).ok(),
            None => zone.to_timestamp(civil).ok(),
        }
    }
}

fn short(name: &'static str, count: usize) -> &'static str {
    if count < 4 { &name[..3] } else { name }
}

/// Returns the leading digits, at least one and at most `most`.
fn digits(text: &str, most: usize) -> Option<&str> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    (count > 0).then(|| &text[..count])
}

/// Returns the text that follows a name or its first three letters. Case is ignored.
fn name<'a>(text: &'a str, names: &[&str], mut found: impl FnMut(i8)) -> Option<&'a str> {
    for (index, name) in names.iter().enumerate() {
        for form in [name, &name[..3]] {
            if text.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form)) {
                found(index as i8);
                return Some(&text[form.len()..]);
            }
        }
    }
    None
}

/// Returns the text that follows `Z`, `+0130` or `+01:30`.
fn offset<'a>(text: &'a str, said: &mut Option<Offset>) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix('Z') {
        *said = Some(Offset::UTC);
        return Some(rest);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let rest = &text[1..];
    let hours = rest.get(..2)?;
    let rest = &rest[2..];
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let minutes = rest.get(..2)?;
    let number = |text: &str| digits(text, 2).filter(|digits| digits.len() == 2)?.parse::<i64>().ok();
    let seconds = sign * (number(hours)? * 3600 + number(minutes)? * 60);
    *said = Some(Offset::from_seconds(SignedDuration::from_secs(seconds).as_secs() as i32).ok()?);
    Some(&rest[2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_york() -> TimeZone {
        TimeZone::get("America/New_York").unwrap()
    }

    /// Compares with the folders that Spark with Hudi 0.15 created for the seconds 1735787045, 0 and
    /// 1719835199, in the time zone of New York.
    #[rstest::rstest]
    #[case("yy-M-d H.m.s", ["25-1-1 22.4.5", "69-12-31 19.0.0", "24-7-1 7.59.59"])]
    #[case("YYYY.MMM.MMMM.D", ["2025.Jan.January.1", "1969.Dec.December.365", "2024.Jul.July.183"])]
    #[case("E.EEEE.e", ["Wed.Wednesday.3", "Wed.Wednesday.3", "Mon.Monday.1"])]
    #[case("k.K.h.hh.a", ["22.10.10.10.PM", "19.7.7.07.PM", "7.7.7.07.AM"])]
    #[case("S.SSS.SSSSSS", ["0.000.000000", "0.000.000000", "0.000.000000"])]
    #[case("Z.ZZZ", ["-0500.America/New_York", "-0500.America/New_York", "-0400.America/New_York"])]
    #[case("ww.xxxx", ["01.2025", "01.1970", "27.2024"])]
    #[case("G.C", ["AD.20", "AD.19", "AD.20"])]
    #[case("yyyy'T'MM''dd", ["2025T01'01", "1969T12'31", "2024T07'01"])]
    #[case("DDD.kk", ["001.22", "365.19", "183.07"])]
    #[case("y.yyy.yyyyy", ["2025.2025.02025", "1969.1969.01969", "2024.2024.02024"])]
    #[case("z", ["EST", "EST", "EDT"])]
    fn writes_what_joda_writes(#[case] pattern: &str, #[case] expected: [&str; 3]) {
        let pattern = Pattern::to_write(pattern).unwrap();
        let seconds = [1_735_787_045, 0, 1_719_835_199];
        let written =
            seconds.map(|second| pattern.format(Timestamp::from_second(second).unwrap(), &new_york()));
        assert_eq!(written, expected);
    }

    #[test]
    fn a_letter_that_joda_does_not_know_is_named() {
        assert_eq!(Pattern::to_write("yyyy-XXX"), Err('X'));
        assert_eq!(Pattern::to_write("u"), Err('u'));
        assert_eq!(Pattern::to_read("yy-MM"), Err('y'));
    }

    #[rstest::rstest]
    #[case("yyyy-MM-dd HH:mm:ss", "2025-01-02 03:04:05", Some("2025-01-02T08:04:05Z"))]
    #[case("yyyy-MM-dd HH:mm:ss", "2025-1-2 3:4:5", Some("2025-01-02T08:04:05Z"))]
    #[case("yyyyMMdd", "20250102", Some("2025-01-02T05:00:00Z"))]
    #[case("yyyyMMdd", "2025010", None)]
    #[case("dd MMM yyyy hh a", "02 Jan 2025 03 PM", Some("2025-01-02T20:00:00Z"))]
    #[case("yyyy-MM-dd'T'HH:mm:ssZ", "2025-01-02T23:30:00Z", Some("2025-01-02T23:30:00Z"))]
    #[case("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2025-01-02T23:30:00.123-05:00", Some("2025-01-03T04:30:00.123Z"))]
    #[case("yyyy-MM-dd", "", None)]
    #[case("yyyy-MM-dd", "2025-13-01", None)]
    #[case("yyyy-MM-dd", "2025-01-02 ", None)]
    #[case("yyyy-MM-dd", "garbage", None)]
    fn reads_what_joda_reads(#[case] pattern: &str, #[case] text: &str, #[case] expected: Option<&str>) {
        let expected = expected.map(|text| text.parse().unwrap());
        assert_eq!(Pattern::to_read(pattern).unwrap().read(text, &new_york()), expected);
    }
}
