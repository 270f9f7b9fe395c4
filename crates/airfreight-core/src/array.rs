//! Streams that hold one NumPy array and nothing else (docs/design/codec.md), which take no unpickler to read.

/// The most dimensions that are read here; an unpickler reads any number.
const DIMENSIONS_MAX: usize = 4;

// What Python's pickler writes for `numpy.ndarray(shape, dtype, buffer, 0, None, order)`; numbers and strings differ.
const BEGIN: &[u8] = b"\x80\x05\x95";
const FRAME_LENGTH_BYTES: usize = 8;
const CALLED: &[u8] = b"\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94(";
const MEMOIZE: &[u8] = b"\x94";
const STRING: &[u8] = b"\x8c";
const BUFFER: &[u8] = b"\x97K\x00N";
const END: &[u8] = b"t\x94R\x94.";

/// An array whose memory is the object's only buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainArray<'a> {
    dimensions: [u64; DIMENSIONS_MAX],
    count: usize,
    /// As `numpy.dtype` reads it: a character, or a string such as `>f8`.
    pub dtype: &'a str,
    /// `C` or `F`: how the elements lie in the buffer.
    pub order: &'a str,
}

impl<'a> PlainArray<'a> {
    /// Reads a stream; `None` where it holds anything else, or more dimensions than a few.
    #[must_use]
    pub fn parse(stream: &'a [u8]) -> Option<Self> {
        let mut rest = stream.strip_prefix(BEGIN)?.get(FRAME_LENGTH_BYTES..)?.strip_prefix(CALLED)?;
        let begins_with_mark = take_prefix(&mut rest, b"(");
        let mut dimensions = [0; DIMENSIONS_MAX];
        let mut count = 0;
        let ends_at_mark = loop {
            match take(&mut rest)? {
                b'\x85' if count == 1 => break false,
                b'\x86' if count == 2 => break false,
                b'\x87' if count == 3 => break false,
                b't' => break true,
                opcode => {
                    *dimensions.get_mut(count)? = take_number(&mut rest, opcode)?;
                    count += 1;
                }
            }
        };
        if begins_with_mark != ends_at_mark {
            return None;
        }
        rest = rest.strip_prefix(MEMOIZE)?;
        let dtype = take_string(&mut rest)?;
        rest = rest.strip_prefix(BUFFER)?;
        let order = take_string(&mut rest)?;
        (rest == END && matches!(order, "C" | "F")).then_some(Self { dimensions, count, dtype, order })
    }

    /// The array's shape.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.dimensions[..self.count]
    }
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    rest.split_off_first().copied()
}

fn take_prefix(rest: &mut &[u8], prefix: &[u8]) -> bool {
    let after = rest.strip_prefix(prefix);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

fn take_number(rest: &mut &[u8], opcode: u8) -> Option<u64> {
    let len = match opcode {
        b'K' => 1,
        b'M' => 2,
        b'J' => 4,
        b'\x8a' => usize::from(take(rest)?),
        _ => return None,
    };
    let digits = rest.split_off(..len)?;
    let mut bytes = [0; 8];
    bytes.get_mut(..len)?.copy_from_slice(digits);
    let is_signed = matches!(opcode, b'J' | b'\x8a');
    let is_negative = is_signed && digits.last().is_some_and(|byte| byte & 0x80 != 0);
    (!is_negative).then(|| u64::from_le_bytes(bytes))
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    if !take_prefix(rest, STRING) {
        return None;
    }
    let len = usize::from(take(rest)?);
    let string = str::from_utf8(rest.split_off(..len)?).ok()?;
    take_prefix(rest, MEMOIZE).then_some(string)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pickle.dumps((3, 400, 70_000, 2**40))` spells them so.
    const NUMBERS: &[u8] = b"(K\x03M\x90\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01t";

    fn stream(shape: &[u8], dtype: &str, order: &str) -> Vec<u8> {
        let string = |text: &str| [&[0x8c, u8::try_from(text.len()).unwrap()], text.as_bytes(), MEMOIZE].concat();
        [BEGIN, &[9; 8], CALLED, shape, MEMOIZE, &string(dtype), BUFFER, &string(order), END].concat()
    }

    #[test]
    fn every_spelling_of_a_shape_is_read() {
        for (spelling, shape) in [
            (b"K\x05\x85".as_slice(), [5].as_slice()),
            (b"K\x00M\xff\xff\x86", &[0, 65_535]),
            (b"K\x01K\x02K\x03\x87", &[1, 2, 3]),
            (NUMBERS, &[3, 400, 70_000, 1 << 40]),
        ] {
            let stream = stream(spelling, "d", "C");
            let array = PlainArray::parse(&stream).unwrap();
            assert_eq!((array.shape(), array.dtype, array.order), (shape, "d", "C"));
        }
    }

    #[test]
    fn anything_else_is_left_to_the_unpickler() {
        let good = stream(NUMBERS, "<M8[ns]", "F");
        assert!(PlainArray::parse(&good).is_some());
        for len in 0..good.len() {
            assert!(PlainArray::parse(&good[..len]).is_none(), "cut off after {len} bytes");
        }
        assert!(PlainArray::parse(&[&good, b".".as_slice()].concat()).is_none(), "something follows");
        for shape in [
            b")".as_slice(),
            b"K\x05\x86",
            b"K\x05K\x05\x85",
            b"(K\x05\x85",
            b"K\x05t",
            b"(K\x01K\x01K\x01K\x01K\x01t",
            b"J\xff\xff\xff\xff\x85",
            b"\x8a\x01\xff\x85",
            b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85",
            b"\x88\x85",
        ] {
            assert!(PlainArray::parse(&stream(shape, "d", "C")).is_none(), "{shape:?}");
        }
        assert!(PlainArray::parse(&stream(b"K\x05\x85", "d", "A")).is_none(), "no such order");
        assert!(PlainArray::parse(&stream(b"K\x05\x85", "\u{e9}", "C")).is_some(), "NumPy says what it thinks of it");
    }
}
