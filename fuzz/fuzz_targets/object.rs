//! A whole file, placed among a store's objects and read: an error, or parts that can be read to their last byte.
//!
//! Starts from a valid object, changes it, and mends the checksums as told, so that what lies behind them is reached.

#![no_main]

use std::os::unix::fs::OpenOptionsExt;
use std::sync::LazyLock;

use airfreight_core::format::{HEADER_BYTES, Layout, checksum};
use airfreight_core::{ErrorKind, ObjectId, ObjectName};
use airfreight_store::{Access, Options, Store};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    stream_bytes: u16,
    buffers: Vec<u16>,
    metadata: &'a str,
    payload_crc: bool,
    changes: Vec<Change>,
    mend_footer: bool,
    mend_header: bool,
    length: Length,
}

#[derive(Arbitrary, Debug)]
enum Change {
    /// A field of the header, which begins at a multiple of four.
    Header { field: u8, value: u64, wide: bool },
    /// Bytes from the start of the footer.
    Footer { at: u16, value: u64 },
    /// Any byte.
    Byte { at: u32, value: u8 },
}

#[derive(Arbitrary, Debug)]
enum Length {
    AsItIs,
    Cut(u32),
    Longer(u16),
}

static STORE: LazyLock<(tempfile::TempDir, Store)> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("shared memory");
    let options = Options {
        path: Some(folder.path().join("store")),
        capacity_bytes: Some(64 << 20),
        spill_capacity_bytes: Some(0),
        ..Options::default()
    };
    let store = Store::open(&options).expect("a store");
    (folder, store)
});

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (byte, value) in bytes.iter_mut().skip(at).zip(value) {
        *byte = *value;
    }
}

fn build(input: &Input<'_>, id: ObjectId) -> Option<Vec<u8>> {
    let lengths = input.buffers.iter().map(|&bytes| u64::from(bytes));
    let layout = Layout::new(input.stream_bytes.into(), lengths, input.metadata.len()).ok()?;
    let footer = layout.footer(input.metadata);
    let start = usize::try_from(HEADER_BYTES).ok()?;
    let table = usize::try_from(layout.table_offset).ok()?;
    let mut bytes = vec![0x5a; table];
    bytes.extend_from_slice(&footer);
    let payload_crc = input.payload_crc.then(|| checksum(&bytes[start..table]));
    put(&mut bytes, 0, &layout.header(id, &footer, payload_crc, 0).encode());
    for change in &input.changes {
        match *change {
            Change::Header { field, value, wide: true } => {
                put(&mut bytes, usize::from(field % 30) * 4, &value.to_le_bytes())
            }
            Change::Header { field, value, wide: false } => {
                put(&mut bytes, usize::from(field % 30) * 4, &value.to_le_bytes()[..4]);
            }
            Change::Footer { at, value } => put(&mut bytes, table + usize::from(at), &value.to_le_bytes()),
            Change::Byte { at, value } => put(&mut bytes, usize::try_from(at).ok()?, &[value]),
        }
    }
    let at = |field: usize| usize::try_from(u64::from_le_bytes(*bytes[field..].first_chunk()?)).ok();
    if input.mend_footer
        && let (Some(table), Some(end)) = (at(56), at(32))
        && let Some(footer) = bytes.get(table..end)
    {
        let crc = checksum(footer);
        put(&mut bytes, 88, &crc.to_le_bytes());
    }
    if input.mend_header {
        put(&mut bytes, 16, id.as_bytes());
        let crc = checksum(&bytes[..120]);
        put(&mut bytes, 120, &crc.to_le_bytes());
    }
    match input.length {
        Length::AsItIs => {}
        Length::Cut(to) => bytes.truncate(usize::try_from(to).ok()?),
        Length::Longer(by) => bytes.resize(bytes.len() + usize::from(by), 0xee),
    }
    Some(bytes)
}

fuzz_target!(|input: Input<'_>| {
    let (_, store) = &*STORE;
    let id = ObjectId::from_bytes([0x11; 16]);
    let Some(bytes) = build(&input, id) else { return };
    let name = ObjectName::new(id);
    let file = store.path().join("objects").join(name.to_string());
    let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&file).expect("a file");
    std::io::Write::write_all(&mut opened, &bytes).expect("room");
    drop(opened);

    let untouched = input.changes.is_empty() && !matches!(input.length, Length::Cut(_));
    match store.get(name, Access::PrivateWritable) {
        Ok(object) => {
            let mut sum = object.stream().iter().map(|&byte| u64::from(byte)).sum::<u64>();
            for index in 0..object.entries().len() {
                let buffer = object.buffer(index).expect("an entry has a buffer");
                assert_eq!(buffer.len() as u64, object.entries()[index].bytes());
                sum += buffer.iter().map(|&byte| u64::from(byte)).sum::<u64>();
            }
            std::hint::black_box((sum, object.metadata().len()));
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(!untouched, "a valid object is refused: {error}");
        }
    }
    if let Err(error) = store.describe(name) {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    assert!(store.delete(name).expect("deleting needs no header"));
});
