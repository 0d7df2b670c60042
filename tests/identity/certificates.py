"""Real certificates for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@cache
def authority_key() -> Any:
    return generate_private_key(SECP256R1())


def certificate(
    name: str = "alice",
    *,
    uris: Sequence[str] = (),
    hosts: Sequence[str] = (),
    emails: Sequence[str] = (),
    addresses: Sequence[str] = (),
    days: float = 1,
) -> x509.Certificate:
    """A certificate for `name`, which ends in `days`."""
    names: list[x509.GeneralName] = [
        *(x509.UniformResourceIdentifier(uri) for uri in uris),
        *(x509.DNSName(host) for host in hosts),
        *(x509.RFC822Name(email) for email in emails),
        *(x509.IPAddress(ip_address(address)) for address in addresses),
    ]
    now = datetime.now(UTC)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bank"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")]))
        .public_key(authority_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key(), SHA256())


def der(of: x509.Certificate) -> bytes:
    """Its DER form."""
    return of.public_bytes(Encoding.DER)


def pem(of: x509.Certificate) -> str:
    """Its PEM form."""
    return of.public_bytes(Encoding.PEM).decode()


def escaped_pem(of: x509.Certificate) -> bytes:
    """As nginx's `$ssl_client_escaped_cert` has it."""
    return quote(pem(of), safe="").encode()


def tls_files(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1: the file that a client trusts, and the one that a server serves."""
    key = generate_private_key(SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    authority, chain = folder / "authority.pem", folder / "chain.pem"
    authority.write_text(pem(own))
    chain.write_text(pem(own) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    return authority, chain
