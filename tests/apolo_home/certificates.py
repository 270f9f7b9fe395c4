"""An authority that nobody trusts, and a certificate of its for a server of this host."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

#: A name that no resolver knows, for which the certificate is good, too.
NAME = "platform.test"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority, and a server's certificate with its key."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """New ones, good for an hour."""
        authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = _name("airfreight's tests")
        made = cls(folder / "authority.pem", folder / "server.pem", folder / "server.key")
        signed = _begin(authority, authority, authority_key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        _write(made.authority, signed.sign(authority_key, hashes.SHA256()))
        names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        signed = _begin(_name(NAME), authority, key).add_extension(x509.SubjectAlternativeName(names), critical=False)
        _write(made.certificate, signed.sign(authority_key, hashes.SHA256()))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
