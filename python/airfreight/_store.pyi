"""The store of this host: sealed objects in shared memory (Rust, crates/airfreight-py)."""

from collections.abc import Sequence
from typing import Any, Self, final

from typing_extensions import Buffer

@final
class Store:
    """
    One store directory on this host, opened without a daemon.

    Opening costs well under a millisecond and starts no thread. A store opened before ``fork()`` works in both
    processes. Every method releases the GIL while it does IO.

    :param path: the store's directory; by default ``/dev/shm/airfreight-<uid>``, or a directory on disk where shared
        memory is too small (``notice`` then says why).
    :param capacity_bytes: the most that objects and warm segments may take; by default half of the file system.
    :param spill_path: where objects go when the store is over its limit; by default
        ``/var/tmp/airfreight-<uid>-spill``.
    :param spill_capacity_bytes: the most that spilled objects may take; 0 turns spilling off; by default half of what
        is free there.
    :param pool_bytes: the most that warm segments may take; by default a quarter of ``capacity_bytes``.
    :param ttl_seconds: an object expires so long after its last use (default 7 days).
    :param create: make the directory when it isn't there; ``False`` raises instead (what ``ls`` and ``doctor`` want).
    :raises DeniedError: the directory belongs to somebody else or is open to others.
    """

    def __new__(
        cls,
        path: str | None = None,
        *,
        capacity_bytes: int | None = None,
        spill_path: str | None = None,
        spill_capacity_bytes: int | None = None,
        pool_bytes: int | None = None,
        ttl_seconds: int | None = None,
        create: bool = True,
    ) -> Self: ...
    @property
    def path(self) -> str: ...
    @property
    def store_id(self) -> str:
        """Random, made with the directory: an object is local when its reference names this id."""
    @property
    def tier(self) -> str:
        """``"memory"`` on tmpfs, else ``"disk"``."""
    @property
    def notice(self) -> str | None:
        """Why the store is not in fast shared memory and how to get there; ``None`` when it is."""
    def create(self) -> Writer:
        """Begins an object. It is visible to nobody until :meth:`Writer.seal`, and gone if it is never sealed."""
    def get(self, name: str, *, writable: bool = True) -> Object:
        """
        Opens a sealed object; the cost does not depend on its size.

        :param name: what :meth:`Writer.seal` or :meth:`link` returned.
        :param writable: a private copy-on-write mapping (default); ``False`` maps read-only.
        :raises ObjectNotFoundError: not in this store, neither in memory nor spilled.
        :raises CorruptError: header, footer or (where it was on a disk) payload don't match their checksums.
        """
    def contains(self, name: str) -> bool: ...
    def describe(self, name: str) -> dict[str, Any]:
        """
        What is known of an object without reading its payload.

        Keys: ``name``, ``id``, ``nbytes`` (payload), ``file_bytes``, ``tier`` (``memory``, ``disk`` or ``spill``),
        ``created_at`` and ``used_at`` (Unix seconds, float), ``links``, ``pinned`` and ``metadata`` (the dict that
        was given to seal).
        """
    def delete(self, name: str) -> bool:
        """Removes a name in every tier of this host; readers keep their mapping. ``False`` when it wasn't there."""
    def expire(self, name: str, in_seconds: float = 0.0) -> bool:
        """Lets a name lapse after so many seconds unless it is used before; ``False`` when it wasn't there."""
    def link(self, name: str) -> str:
        """A second name for the same bytes, with a life of its own; nothing is copied."""
    def note_copy(self, name: str) -> bool:
        """
        Notes that a bucket has a copy: where room is needed, the object may go without another one.

        ``False`` when the store doesn't have it.
        """
    def names(self) -> list[str]: ...
    def stat(self) -> dict[str, Any]:
        """
        ``used_bytes``, ``warm_bytes``, ``capacity_bytes``, ``pool_bytes``, ``objects``, ``pinned``, ``spilled_bytes``,
        ``spilled_objects``, ``spill_capacity_bytes``, ``path``, ``spill_path``, ``store_id``, ``tier``, ``notice``,
        ``huge_pages`` (the mount's ``huge=`` or ``None``), counted by a scan.
        """
    def sweep(self, limit: int = 32) -> int:
        """Removes at most ``limit`` expired objects and what killed writers left; never scans the whole store."""
    def collect(self) -> dict[str, int]:
        """A full pass: expired objects, remains of killed writers, counters. Returns what was removed."""

@final
class Writer:
    """
    An object being written.

    ``write`` has the shape that ``pickle.Pickler`` wants of a file, ``add_buffer`` that of its ``buffer_callback``.
    A writer that is dropped, aborted, or whose process dies leaves nothing behind.
    """

    def write(self, data: Buffer, /) -> int:
        """Appends to the object's stream (the pickle). Memory use stays bounded, however long the stream gets."""
    def add_buffer(self, buffer: Buffer, /) -> bool:
        """
        Takes one contiguous buffer (a ``pickle.PickleBuffer``) out of band, held until :meth:`seal` copies it.

        Returns true, which to a Pickler means "keep it in band", when it is too small to be worth a segment entry.
        """
    @property
    def nbytes(self) -> int:
        """Payload bytes so far: the stream and every buffer."""
    def seal(self, metadata: str) -> str:
        """
        Copies the buffers, writes ``metadata`` (a JSON object) and publishes the whole; returns the object's name.

        :raises StoreFullError: no room in memory nor in the spill directory; nothing is left behind.
        """
    def abort(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None:
        """Aborts unless sealed."""

@final
class Object:
    """A sealed object, open for reading. Its mapping lives as long as this or any buffer taken from it."""

    @property
    def name(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def tier(self) -> str: ...
    @property
    def stream(self) -> memoryview:
        """The pickle stream."""
    def array(self, ndarray: Any, /) -> Any:
        """
        The value, where it is one plain array (docs/design/codec.md): what unpickling gives, in half the time.

        :param ndarray: ``numpy.ndarray``.
        :returns: the array; ``None`` for any other value, and where NumPy refuses it.
        """
    @property
    def buffers(self) -> Sequence[memoryview]:
        """The out-of-band buffers in the order in which they were added, each 64-byte aligned."""
    @property
    def metadata(self) -> dict[str, Any]: ...

def sign_reference(document: str, keys: Sequence[bytes]) -> str:
    """
    Authenticates a reference.

    :param document: the reference as a JSON object without its ``hmac`` member.
    :param keys: secret keys; the first signs.
    :returns: the JSON object with ``hmac`` set to ``<key fingerprint>:<HMAC-SHA256 in base64url>``, computed over the
        canonical form (members sorted, no spaces).
    """

def verify_reference(document: str, keys: Sequence[bytes]) -> None:
    """
    Checks a reference's ``hmac`` in constant time against every key.

    :raises DeniedError: it has none, or none of the keys made it; both fingerprints are named.
    """

def key_fingerprint(key: bytes) -> str:
    """Eight hexadecimal digits that name a key without telling it."""

def pack_texts(array: Any, types: frozenset[type], /) -> tuple[Buffer, Buffer, list[Any]] | None:
    """
    Takes a one-dimensional contiguous NumPy array of strings as text.

    :param types: what may be among the strings, which are exactly of type ``str``.
    :returns: lengths, text and what was among them (docs/design/codec.md, "Packed strings"); ``None`` when something
        else is, when there are more than 255 such values, or when UTF-8 can't say a string.
    """

def fill_texts(array: Any, lengths: Buffer, text: Buffer, others: list[Any], /) -> None:
    """
    Puts strings back into an array of that length, of dtype ``object``.

    :raises CorruptError: text and lengths don't fit each other or the array.
    """
