//! Kafka's primitive types, as the versions without flexible fields write them.

/// Builds a message.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn int8(&mut self, value: i8) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn int16(&mut self, value: i16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn int32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn int64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn uint32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// An array's length, to be followed by its items.
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.int32(i32::try_from(count).expect("a rig sends short arrays"))
    }

    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.int16(i16::try_from(text.len()).expect("a rig sends short strings"));
        self.raw(text.as_bytes())
    }

    pub(crate) fn null_string(&mut self) -> &mut Self {
        self.int16(-1)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// A zigzag variable-length number, as records use it.
    pub(crate) fn varint(&mut self, value: i64) -> &mut Self {
        let mut left = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
        while left >= 0x80 {
            self.bytes.push((left & 0x7F) as u8 | 0x80);
            left >>= 7;
        }
        self.bytes.push((left & 0x7F) as u8);
        self
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a message; every read is bounded by the bytes that are there.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.left.len()
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], String> {
        let Some((taken, left)) = self.left.split_at_checked(length) else {
            return Err(format!("{length} bytes wanted, {} left", self.left.len()));
        };
        self.left = left;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.raw(N)?.try_into().expect("raw returns the length asked for"))
    }

    pub(crate) fn int8(&mut self) -> Result<i8, String> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn int16(&mut self) -> Result<i16, String> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn int32(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn int64(&mut self) -> Result<i64, String> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn uint32(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// An array's length; null is empty.
    pub(crate) fn count(&mut self) -> Result<usize, String> {
        Ok(usize::try_from(self.int32()?).unwrap_or(0))
    }

    pub(crate) fn string(&mut self) -> Result<String, String> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        let bytes = self.raw(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.count()?;
        self.raw(length)
    }

    pub(crate) fn varint(&mut self) -> Result<i64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err("a varint of more than ten bytes".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.int8(-2).int16(-3).int32(-4).int64(-5).uint32(6).string("seven").bytes(b"eight");
        for value in [0, -1, 1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            writer.varint(value);
        }
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.int8(), Ok(-2));
        assert_eq!(reader.int16(), Ok(-3));
        assert_eq!(reader.int32(), Ok(-4));
        assert_eq!(reader.int64(), Ok(-5));
        assert_eq!(reader.uint32(), Ok(6));
        assert_eq!(reader.string().unwrap(), "seven");
        assert_eq!(reader.bytes().unwrap(), b"eight");
        for value in [0, -1, 1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            assert_eq!(reader.varint(), Ok(value));
        }
        assert_eq!(reader.remaining(), 0);
        assert!(reader.int8().is_err());
    }
}
