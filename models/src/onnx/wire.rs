//! Protobuf's wire format: splitting a message into fields and writing fields back.
//!
//! Owns no schema. Promises to read any bytes without panicking and to keep fields that it does not know.

/// One field of a message; `raw` holds tag and value as they stand in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    pub raw: &'a [u8],
}

/// A field's value by wire type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed32,
    Fixed64,
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            Value::Varint(_) | Value::Fixed32 | Value::Fixed64 => None,
        }
    }

    pub fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub fn int(&self) -> Option<i64> {
        match self.value {
            // int64 fields are two's complement in a varint.
            Value::Varint(value) => Some(value as i64),
            Value::Fixed32 | Value::Fixed64 | Value::Bytes(_) => None,
        }
    }
}

/// Iterates over the fields of `message`; yields `Err(())` once and stops where the bytes are not protobuf.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// The bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotProtobuf;

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, NotProtobuf>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = split_field(self.rest);
        self.rest = match &field {
            Some((_, rest)) => rest,
            None => &[],
        };
        Some(field.map(|(field, _)| field).ok_or(NotProtobuf))
    }
}

fn split_field(start: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (tag, rest) = varint(start)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
    let (value, rest) = match tag & 7 {
        0 => varint(rest).map(|(value, rest)| (Value::Varint(value), rest))?,
        1 => rest.split_first_chunk::<8>().map(|(_, rest)| (Value::Fixed64, rest))?,
        2 => {
            let (length, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Value::Bytes(bytes), rest)
        }
        5 => rest.split_first_chunk::<4>().map(|(_, rest)| (Value::Fixed32, rest))?,
        _ => return None,
    };
    let raw = &start[..start.len() - rest.len()];
    Some((Field { number, value, raw }, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// The integers of a repeated field entry, which may be packed or single.
pub(super) fn packed_ints(field: &Field<'_>) -> Vec<i64> {
    match field.value {
        Value::Varint(value) => vec![value as i64],
        Value::Bytes(mut rest) => {
            let mut values = Vec::new();
            while let Some((value, after)) = varint(rest) {
                values.push(value as i64);
                rest = after;
            }
            values
        }
        Value::Fixed32 | Value::Fixed64 => Vec::new(),
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value as u64);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_fixed32(out: &mut Vec<u8>, number: u32, value: [u8; 4]) {
    put_varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_a_round_trip() {
        let mut message = Vec::new();
        put_int(&mut message, 1, -5);
        put_bytes(&mut message, 200, b"hello");
        let read: Vec<_> = fields(&message).map(|field| field.expect("well formed")).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].number, read[0].int()), (1, Some(-5)));
        assert_eq!((read[1].number, read[1].text()), (200, Some("hello")));
        assert_eq!([read[0].raw, read[1].raw].concat(), message);
    }

    #[test]
    fn broken_bytes_end_in_an_error() {
        for bytes in [&b"this is not protobuf"[..], &[0x0a, 0xff], &[0xff; 12], &[0x0f]] {
            assert_eq!(fields(bytes).last().map(|field| field.is_err()), Some(true), "{bytes:?}");
        }
    }
}
