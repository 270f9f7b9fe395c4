//! Memory that passes between Python and the store without a copy: the binding's only unsafe code.

#![allow(unsafe_code, reason = "Python's buffer protocol is a C interface")]

use std::ffi::c_int;

use airfreight_store::Access;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyIndexError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::object::Object;

/// One contiguous buffer that Python lent us; given back on drop.
pub(crate) struct Lent(PyUntypedBuffer);

impl Lent {
    /// Borrows an object's memory.
    ///
    /// # Errors
    /// `BufferError` when it has none, or none that is contiguous (in C or Fortran order).
    pub(crate) fn from(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if buffer.is_c_contiguous() || buffer.is_fortran_contiguous() {
            Ok(Self(buffer))
        } else {
            Err(PyBufferError::new_err("the buffer is not contiguous"))
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len_bytes()
    }

    /// The bytes as they lie in memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: the buffer is contiguous (checked), so pointer and length span its memory, which its owner keeps in
        // place until `self` gives it back. Another Python thread may write it meanwhile, as it may during any
        // pickling; then the stored value is as torn as the program is, and nothing but bytes is read here.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), self.len()) }
    }
}

/// A part of an open object that Python may use as a buffer. Keeps the object open, and so its pages in place.
#[pyclass(frozen, module = "airfreight._store")]
pub(crate) struct Slice {
    object: Py<Object>,
    offset: u64,
    bytes: u64,
}

impl Slice {
    pub(crate) fn new(object: Py<Object>, offset: u64, bytes: u64) -> Self {
        Self { object, offset, bytes }
    }
}

#[pymethods]
impl Slice {
    #[expect(clippy::needless_pass_by_value, reason = "what the binding's macro calls for")]
    /// # Safety
    /// Called by the interpreter with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let Object { object, access } = this.object.get();
        let range = usize::try_from(this.offset).ok().zip(isize::try_from(this.bytes).ok());
        let Some((offset, len)) = range
            .filter(|&(offset, len)| offset.checked_add(len.unsigned_abs()).is_some_and(|end| end <= object.len()))
        else {
            return Err(PyBufferError::new_err("the slice leaves its object"));
        };
        let readonly = c_int::from(*access == Access::ReadOnly);
        // SAFETY: in range (checked).
        let start = unsafe { object.as_ptr().add(offset) };
        // SAFETY: `view` is the interpreter's. The memory stays valid while the view lives: the view holds a
        // reference to `slf`, `slf` holds the object. It is writable exactly where the mapping is.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast(), len, readonly, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// Bytes of ours that Python may read as a buffer.
#[pyclass(frozen, module = "airfreight._store")]
pub(crate) struct Owned(Vec<u8>);

impl Owned {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[pymethods]
impl Owned {
    #[expect(clippy::needless_pass_by_value, reason = "what the binding's macro calls for")]
    /// # Safety
    /// Called by the interpreter with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        let len = isize::try_from(bytes.len()).map_err(|_| PyBufferError::new_err("longer than a buffer may be"))?;
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: `view` is the interpreter's. The memory stays where it is while the view lives: the view holds a
        // reference to `slf`, which owns it and never changes it. It is lent read-only.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// The references in an array of Python objects, one after the other.
pub(crate) struct Slots(PyUntypedBuffer);

impl Slots {
    /// Borrows the references of a contiguous, writable array of dtype `object`.
    ///
    /// # Errors
    /// `BufferError` when it is anything else.
    pub(crate) fn from(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(array)?;
        let objects = buffer.format() == c"O" && buffer.item_size() == size_of::<*mut ffi::PyObject>();
        // Bytes can be called `O` too, but then nobody keeps the references that they would hold.
        let numpy = array.get_type().module()? == "numpy";
        if objects && numpy && buffer.is_c_contiguous() && buffer.buf_ptr().cast::<*mut ffi::PyObject>().is_aligned() {
            Ok(Self(buffer))
        } else {
            Err(PyBufferError::new_err("not a contiguous array of objects"))
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.item_count()
    }

    fn slot(&self, index: usize) -> PyResult<*mut *mut ffi::PyObject> {
        if index >= self.len() {
            return Err(PyIndexError::new_err("no such slot"));
        }
        // SAFETY: in range (checked).
        Ok(unsafe { self.0.buf_ptr().cast::<*mut ffi::PyObject>().add(index) })
    }

    /// The object at `index`; `None` where there is none yet, which is how NumPy reads it.
    pub(crate) fn get<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        let slot = self.slot(index)?;
        // SAFETY: aligned (checked), and NumPy keeps a reference or null in each slot. No other thread changes it
        // while `py` is attached.
        let object = unsafe { slot.read() };
        // SAFETY: the array's own reference keeps the object alive until this one is taken.
        Ok(unsafe { Bound::from_borrowed_ptr_or_opt(py, object) }.unwrap_or_else(|| py.None().into_bound(py)))
    }

    /// Replaces the object at `index`.
    pub(crate) fn set(&self, index: usize, value: Bound<'_, PyAny>) -> PyResult<()> {
        if self.0.readonly() {
            return Err(PyBufferError::new_err("the array can't be written"));
        }
        let slot = self.slot(index)?;
        let py = value.py();
        // SAFETY: aligned (checked), writable (checked); no other thread is in here while `py` is attached. The new
        // reference becomes the array's.
        let before = unsafe { slot.replace(value.into_ptr()) };
        // SAFETY: the array's reference, or null; it is ours now and dropped here.
        drop(unsafe { Bound::from_owned_ptr_or_opt(py, before) });
        Ok(())
    }
}
