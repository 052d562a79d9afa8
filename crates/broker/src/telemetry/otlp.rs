//! What clients push: OpenTelemetry's `MetricsData`, in Protocol Buffers' encoding. Pure; read in
//! place, to a fixed depth, and anything not known is passed over.
//!
//! ```text
//!   MetricsData      1: ResourceMetrics   2: ScopeMetrics   2: Metric
//!   Metric           1: name   5: gauge   7: sum   9: histogram   10: exponential   11: summary
//!   each of those    1: data points
//!   number's point   4: a double   6: a fixed 64-bit integer   7: attributes
//!   attribute        1: key   2: value   (1: text   2: boolean   3: integer   4: a double)
//! ```

use std::fmt;

/// It is no `MetricsData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no OpenTelemetry metrics")
    }
}

type Result<T> = std::result::Result<T, Malformed>;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    numbers: [&'a [u8]; 2],
    others: [&'a [u8]; 3],
}

/// A value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Value<'a> {
    number: Number,
    /// The point that it is of.
    point: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Float(f64),
    Integer(i64),
    /// Not a number: a distribution, or none recorded.
    Other,
}

/// Calls `visit` with each metric.
///
/// # Errors
/// Where the bytes are no metrics; some may have been visited.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    visit: &mut dyn FnMut(Metric<'a>) -> Result<()>,
) -> Result<()> {
    let is_of = |number: u64, field: &Field<'a>| match (field.number == number, field.value) {
        (true, Content::Bytes(bytes)) => Ok(Some(bytes)),
        (true, _) => Err(Malformed),
        (false, _) => Ok(None),
    };
    for resource in Fields(bytes) {
        let Some(resource) = is_of(1, &resource?)? else { continue };
        for scope in Fields(resource) {
            let Some(scope) = is_of(2, &scope?)? else { continue };
            for metric in Fields(scope) {
                let Some(metric) = is_of(2, &metric?)? else { continue };
                visit(Metric::read(metric)?)?;
            }
        }
    }
    Ok(())
}

impl<'a> Metric<'a> {
    fn read(bytes: &'a [u8]) -> Result<Metric<'a>> {
        let mut metric = Metric { name: "", numbers: [&[]; 2], others: [&[]; 3] };
        for field in Fields(bytes) {
            let field = field?;
            let place = match field.number {
                1 => {
                    metric.name = std::str::from_utf8(field.bytes()?).map_err(|_| Malformed)?;
                    continue;
                }
                5 => &mut metric.numbers[0],
                7 => &mut metric.numbers[1],
                9 => &mut metric.others[0],
                10 => &mut metric.others[1],
                11 => &mut metric.others[2],
                _ => continue,
            };
            *place = field.bytes()?;
        }
        Ok(metric)
    }

    /// Calls `visit` with each of its values.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub(super) fn values(&self, visit: &mut dyn FnMut(Value<'a>)) -> Result<()> {
        let numbers = self.numbers.iter().map(|data| (data, true));
        for (data, are_numbers) in numbers.chain(self.others.iter().map(|data| (data, false))) {
            for field in Fields(data) {
                let field = field?;
                if field.number == 1 {
                    let point = field.bytes()?;
                    let number = if are_numbers { number(point)? } else { Number::Other };
                    visit(Value { number, point });
                }
            }
        }
        Ok(())
    }
}

fn number(point: &[u8]) -> Result<Number> {
    let mut number = Number::Other;
    for field in Fields(point) {
        let field = field?;
        number = match (field.number, field.value) {
            (4, Content::Fixed64(bits)) => Number::Float(f64::from_bits(bits)),
            (6, Content::Fixed64(bits)) => Number::Integer(bits.cast_signed()),
            (4 | 6, _) => return Err(Malformed),
            _ => number,
        };
    }
    Ok(number)
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Number::Float(float) => write!(formatter, "{float}")?,
            Number::Integer(integer) => write!(formatter, "{integer}")?,
            Number::Other => formatter.write_str("a distribution")?,
        }
        let of_point = Fields(self.point).flatten();
        for attribute in of_point.filter(|field| field.number == 7) {
            let Content::Bytes(attribute) = attribute.value else { continue };
            let (mut key, mut value) = (&[][..], None);
            for field in Fields(attribute).flatten() {
                match (field.number, field.value) {
                    (1, Content::Bytes(bytes)) => key = bytes,
                    (2, Content::Bytes(bytes)) => value = Fields(bytes).flatten().next(),
                    _ => {}
                }
            }
            let key = String::from_utf8_lossy(key);
            write!(formatter, " {}=", super::Shown(&key))?;
            match value.map(|field| (field.number, field.value)) {
                Some((1, Content::Bytes(text))) => {
                    write!(formatter, "{}", super::Shown(&String::from_utf8_lossy(text)))?;
                }
                Some((2, Content::Varint(flag))) => write!(formatter, "{}", flag != 0)?,
                Some((3, Content::Varint(number))) => {
                    write!(formatter, "{}", number.cast_signed())?;
                }
                Some((4, Content::Fixed64(bits))) => {
                    write!(formatter, "{}", f64::from_bits(bits))?;
                }
                _ => formatter.write_str("?")?,
            }
        }
        Ok(())
    }
}

struct Field<'a> {
    number: u64,
    value: Content<'a>,
}

impl<'a> Field<'a> {
    fn bytes(&self) -> Result<&'a [u8]> {
        match self.value {
            Content::Bytes(bytes) => Ok(bytes),
            Content::Varint(_) | Content::Fixed64(_) | Content::Fixed32 => Err(Malformed),
        }
    }
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in their order; ends after the first that cannot be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Result<Field<'a>>> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<Field<'a>> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.first_chunk().expect("so many were taken");
                Content::Fixed64(u64::from_le_bytes(*bytes))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Content::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Content::Fixed32
            }
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            0 => Err(Malformed),
            number => Ok(Field { number, value }),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("short");
        [&[number << 3 | 2, length], content].concat()
    }

    fn wrapped(metric: &[u8]) -> Vec<u8> {
        message(1, &message(2, &message(2, metric)))
    }

    fn told(bytes: &[u8]) -> Result<Vec<String>> {
        let mut told = Vec::new();
        read(bytes, &mut |metric| {
            metric.values(&mut |value| told.push(format!("{}={value}", metric.name)))
        })?;
        Ok(told)
    }

    #[test]
    fn values_are_read_with_what_they_are_of() {
        let key = message(1, b"node");
        let text = [key.as_slice(), &message(2, &message(1, b"a\n"))].concat();
        let number = [key.as_slice(), &message(2, &[3 << 3, 7])].concat();
        let point =
            [&message(7, &text)[..], &[4 << 3 | 1], &1.5_f64.to_le_bytes(), &message(7, &number)];
        let gauge = message(5, &message(1, &point.concat()));
        let integer = [&[6 << 3 | 1][..], &(-3_i64).to_le_bytes()].concat();
        let sum = message(7, &[message(1, &integer), vec![2 << 3, 1]].concat());
        let histogram = message(9, &message(1, b""));
        let cases: [(&[u8], &str); 3] =
            [(&gauge, "m=1.5 node=a\\n node=7"), (&sum, "m=-3"), (&histogram, "m=a distribution")];
        for (data, expected) in cases {
            let metric = [&message(1, b"m"), data, &message(99 & 15, b"unknown")].concat();
            assert_eq!(told(&wrapped(&metric)), Ok(vec![expected.to_owned()]));
        }
        assert_eq!(told(b""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_message_is_refused_wherever_it_ends() {
        let point = [&[4 << 3 | 1][..], &1.5_f64.to_le_bytes()].concat();
        let metric = [message(1, b"m"), message(5, &message(1, &point))].concat();
        let whole = wrapped(&metric);
        told(&whole).unwrap();
        for end in 1..whole.len() {
            assert_eq!(told(&whole[..end]), Err(Malformed), "{end}");
        }
        let cases: [&[u8]; 6] = [
            b"\x0b",
            b"\x02\x00",
            b"\x08\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            &[0xff; 11],
            &message(1, b"\xff"),
        ];
        for bytes in cases {
            assert_eq!(told(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(told(&wrapped(&message(1, b"\xff"))), Err(Malformed), "a name that is no text");
    }
}
