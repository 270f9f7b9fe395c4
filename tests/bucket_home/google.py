"""
Google Cloud Storage as its XML interface describes it: that of S3 with headers, tokens and signatures of Google's own.

There is no server of Google's to run here. The objects, lists and uploads in parts are those of the S3 server behind
this front; what is Google's own is here: who asks, the precondition on generations, and the checksums that it tells.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bucket_home.server import S3Server

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Python takes too long to sum up more.
_SUMMED_BYTES_MAX = 32 * 2**20

EMAIL = "tests@project.iam.gserviceaccount.com"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
#: Moto reads who asks from it, and compares no signature.
_TO_S3 = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class GoogleServer:
    """A Google Cloud Storage that starts empty."""

    def __init__(self) -> None:
        self._s3 = S3Server()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"front": self}))
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"
        self.s3 = urlsplit(self._s3.endpoint).netloc
        #: How many of the next bodies lose a bit on their way to where they are kept.
        self.damages = 0
        #: Of each object, by its entity tag.
        self.sums: dict[tuple[str, str], str] = {}
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def key(self) -> dict[str, str]:
        """The service account's key, as Google hands it out, but for where to find this server."""
        text = _KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        return {
            "type": "service_account",
            "client_email": EMAIL,
            "private_key": text,
            "private_key_id": "1",
            "gcs_base_url": self.endpoint,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variable that leads clients of Google here."""
        return {name.upper(): value for name, value in self.options.items()}

    @property
    def options(self) -> dict[str, str]:
        """For :class:`airfreight._remote.Bucket`."""
        return {"google_service_account_key": json.dumps(self.key)}

    def make_bucket(self, name: str) -> str:
        """Makes a bucket, and returns its URL."""
        return self._s3.make_bucket(name).replace("s3://", "gs://")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._s3.stop()


class _Handler(BaseHTTPRequestHandler):
    front: GoogleServer
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        if not (_is_signed(self) if "X-Goog-Signature" in query else _is_known(self.headers.get("Authorization", ""))):
            self._answer(403, {}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return
        # Clients may percent-encode whatever they like; Moto takes the text as it is for a bucket's name.
        path = quote(unquote(path), safe="/~")
        names = dict(parse_qsl(query, keep_blank_values=True))
        query = "&".join(f"{name}={quote(text)}" for name, text in names.items() if not name.startswith("X-Goog-"))
        headers = {name: text for name, text in self.headers.items() if name.lower() in ("content-type", "range")}
        if self.headers.get("x-goog-if-generation-match") == "0":
            headers["If-None-Match"] = "*"
        if self.command == "PUT" and self.front.damages:
            self.front.damages -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        target = path + (f"?{query}" if query else "")
        status, answered, content = self._ask(self.command, target, headers, body)
        told = {name: text for name, text in answered.items() if name.lower() in _PASSED}
        if self.command == "HEAD":
            told["Content-Length"] = answered.get("Content-Length", "0")
        if status < 300 and self.command != "DELETE" and "partNumber" not in names and path.count("/") > 1:
            told |= self._hash(path, answered.get("ETag", ""))
        self._answer(status, told, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def _ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.front.s3, timeout=60)
        try:
            connection.request(method, target, body, {**headers, "Authorization": _TO_S3})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def _hash(self, path: str, tag: str) -> dict[str, str]:
        """What Google tells of the object that it keeps."""
        if (path, tag) not in self.front.sums:
            _, _, kept = self._ask("GET", path, {}, b"")
            is_long = len(kept) > _SUMMED_BYTES_MAX
            self.front.sums[path, tag] = "" if is_long else base64.b64encode(crc32c(kept).to_bytes(4, "big")).decode()
        crc = self.front.sums[path, tag]
        return {"x-goog-generation": "1"} | ({"x-goog-hash": f"crc32c={crc}"} if crc else {})

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


_PASSED = ("etag", "last-modified", "content-type", "content-range", "accept-ranges")


def _is_known(authorization: str) -> bool:
    """Whether a token is the service account's own, which signs them itself."""
    head, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
    try:
        _KEY.public_key().verify(_decoded(signature), head.encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = json.loads(_decoded(head.partition(".")[2]))
    except (InvalidSignature, ValueError):
        return False
    return bool(claims["iss"] == EMAIL)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _is_signed(request: _Handler) -> bool:
    """Whether a URL's signature is that of its method, path and query, as Google's documentation of V4 has it."""
    path, _, query = request.path.partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    signature = pairs.pop("X-Goog-Signature")
    canonical_query = "&".join(
        f"{quote(name, safe='~')}={quote(text, safe='~')}" for name, text in sorted(pairs.items())
    )
    names = pairs["X-Goog-SignedHeaders"].split(";")
    # The client signs for Google's host, wherever it is told to find it.
    given = {name: request.headers.get(name, "").strip() for name in names} | {"host": "storage.googleapis.com"}
    lines = "".join(f"{name}:{given[name]}\n" for name in names)
    asked = f"{request.command}\n{path}\n{canonical_query}\n{lines}\n{';'.join(names)}\nUNSIGNED-PAYLOAD"
    scope = pairs["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(asked.encode()).hexdigest()
    text = f"GOOG4-RSA-SHA256\n{pairs['X-Goog-Date']}\n{scope}\n{digest}"
    try:
        _KEY.public_key().verify(binascii.unhexlify(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def crc32c(data: bytes) -> int:
    """CRC-32 by Castagnoli's polynomial."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFF_FFFF


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F6_3B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _table()
