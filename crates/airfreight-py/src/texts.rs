//! Columns of strings: functions of `airfreight._store`.
//!
//! Their text goes into one buffer and their lengths into another (docs/design/codec.md, "Packed strings"), which
//! spares a pickler's memory of every string and an opcode for each.

use airfreight_core::ErrorKind;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyList, PyString};

use crate::buffer::{Lent, Owned, Slots};
use crate::error;

/// So many different values that are no strings may be among them.
const OTHERS_MAX: usize = 255;
/// The first number that is no length: it stands for the first of the others, the next for the second, and so on.
const OTHER: u32 = u32::MAX - 254;
const _: () = assert!(OTHER as usize + OTHERS_MAX - 1 == u32::MAX as usize);

/// Lengths, text, and the values that are no strings.
type Packed<'py> = (Bound<'py, Owned>, Bound<'py, Owned>, Bound<'py, PyList>);

#[pyfunction]
#[pyo3(signature = (array, types, /))]
pub(crate) fn pack_texts<'py>(
    py: Python<'py>,
    array: &Bound<'py, PyAny>,
    types: &Bound<'py, PyFrozenSet>,
) -> PyResult<Option<Packed<'py>>> {
    let slots = Slots::from(array)?;
    let mut lengths = Vec::with_capacity(slots.len() * size_of::<u32>());
    let mut text = Vec::new();
    let mut others: Vec<Bound<'py, PyAny>> = Vec::new();
    let mut encoder = Encoder::default();
    for index in 0..slots.len() {
        let item = slots.get(py, index)?;
        let number = match item.cast_exact::<PyString>() {
            Ok(string) => encoder.append(string, &mut text).filter(|&length| length < OTHER),
            Err(_) => number_of(&item, &mut others, types)?,
        };
        let Some(number) = number else { return Ok(None) };
        lengths.extend_from_slice(&number.to_le_bytes());
    }
    Ok(Some((Bound::new(py, Owned::new(lengths))?, Bound::new(py, Owned::new(text))?, PyList::new(py, others)?)))
}

/// The number that stands for a value which is no string; `None` if its type is none of `types`, or there are too many.
fn number_of<'py>(
    item: &Bound<'py, PyAny>,
    others: &mut Vec<Bound<'py, PyAny>>,
    types: &Bound<'py, PyFrozenSet>,
) -> PyResult<Option<u32>> {
    let place = match others.iter().position(|other| other.is(item)) {
        Some(place) => place,
        None if others.len() < OTHERS_MAX && types.contains(item.get_type())? => {
            others.push(item.clone());
            others.len() - 1
        }
        None => return Ok(None),
    };
    Ok(u32::try_from(place).ok().map(|place| OTHER + place))
}

/// Appends strings as UTF-8.
///
/// Python lends the UTF-8 form of a string that isn't ASCII only by keeping it with the string from then on. That is
/// the fastest way while there are few of them; where there are many, it would leave the caller with twice the memory.
#[derive(Default)]
struct Encoder {
    kept_bytes: usize,
}

impl Encoder {
    const KEPT_BYTES_MAX: usize = 64 << 10;

    /// The length in bytes; `None` for a string that UTF-8 can't say (half a character), or a very long one.
    fn append(&mut self, string: &Bound<'_, PyString>, text: &mut Vec<u8>) -> Option<u32> {
        if self.kept_bytes > Self::KEPT_BYTES_MAX {
            let copy = string.encode_utf8().ok()?;
            text.extend_from_slice(copy.as_bytes());
            return u32::try_from(copy.as_bytes().len()).ok();
        }
        let lent = string.to_str().ok()?;
        text.extend_from_slice(lent.as_bytes());
        if !lent.is_ascii() {
            self.kept_bytes += lent.len();
        }
        u32::try_from(lent.len()).ok()
    }
}

#[pyfunction]
#[pyo3(signature = (array, lengths, text, others, /))]
pub(crate) fn fill_texts(
    py: Python<'_>,
    array: &Bound<'_, PyAny>,
    lengths: &Bound<'_, PyAny>,
    text: &Bound<'_, PyAny>,
    others: &Bound<'_, PyList>,
) -> PyResult<()> {
    let damaged = || error::new(py, ErrorKind::Corrupt, "packed strings don't fit their lengths", None);
    let slots = Slots::from(array)?;
    let (lengths, text) = (Lent::from(lengths)?, Lent::from(text)?);
    let others: Vec<Bound<'_, PyAny>> = others.iter().collect();
    let (numbers, rest_of_numbers) = lengths.bytes().as_chunks::<4>();
    if numbers.len() != slots.len() || !rest_of_numbers.is_empty() {
        return Err(damaged());
    }
    let mut rest = text.bytes();
    for (index, number) in numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).enumerate() {
        let value = if number < OTHER {
            let (string, after) = rest.split_at_checked(number as usize).ok_or_else(damaged)?;
            rest = after;
            PyString::from_bytes(py, string).map_err(|_| damaged())?.into_any()
        } else {
            others.get((number - OTHER) as usize).ok_or_else(damaged)?.clone()
        };
        slots.set(index, value)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(damaged()) }
}
