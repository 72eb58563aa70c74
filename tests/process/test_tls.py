"""Changed certificates are read again; a bad pair is logged and does not replace the old one."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from restante_process.tls import CertificateError, CertificateFiles, Certificates
from tests.harness.certificates import MakePair


def served(certificates: Certificates, name: str | None) -> str:
    """The PEM of the certificate for a client that names `name`, by a handshake between buffers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der).strip()


def pem(files: CertificateFiles) -> str:
    return files.certificate.read_text().strip()


def replace(target: CertificateFiles, source: CertificateFiles, *, key: bool = True) -> None:
    """Move a new file over the old one, like ACME clients."""
    pairs = [(target.certificate, source.certificate)] + ([(target.key, source.key)] if key else [])
    for old, new in pairs:
        fresh = old.with_suffix(".new")
        fresh.write_bytes(new.read_bytes())
        os.replace(fresh, old)


def test_changed_files_are_served_to_the_next_client(make_pair: MakePair) -> None:
    used, newer = make_pair("used", "mail.example.test"), make_pair("newer", "mail.example.test")
    before = pem(used)
    certificates = Certificates([used])
    assert certificates.reload()
    assert served(certificates, "mail.example.test") == before
    replace(used, newer)
    assert certificates.reload()
    assert served(certificates, "mail.example.test") == pem(newer) != before


def test_a_key_of_another_certificate_keeps_the_old_pair_until_it_fits(make_pair: MakePair) -> None:
    used, newer = make_pair("used", "mail.example.test"), make_pair("newer", "mail.example.test")
    before = pem(used)
    certificates = Certificates([used])
    replace(used, newer, key=False)
    with capture_logs() as logs:
        assert not certificates.reload()
        assert certificates.reload()  # nothing changed since: logged once, not at every check
    assert [line["event"] for line in logs] == ["certificate not replaced"]
    assert served(certificates, None) == before
    replace(used, newer)
    assert certificates.reload()
    assert served(certificates, None) == pem(newer)


def test_a_vanished_file_keeps_the_old_pair(make_pair: MakePair) -> None:
    used = make_pair("used", "mail.example.test")
    before = pem(used)
    certificates = Certificates([used])
    used.key.unlink()
    assert not certificates.reload()
    assert served(certificates, None) == before


def test_force_reads_all_again(make_pair: MakePair) -> None:
    certificates = Certificates([make_pair("used", "mail.example.test")])
    with capture_logs() as logs:
        assert certificates.reload(force=True)
    assert [line["event"] for line in logs] == ["certificate loaded"]


def test_other_pairs_take_the_place_of_the_ones_before_together_or_not_at_all(make_pair: MakePair) -> None:
    one, two = make_pair("one", "one.example.test"), make_pair("two", "two.example.test")
    certificates = Certificates([one])
    broken = CertificateFiles(two.certificate, one.key)
    with capture_logs() as logs:
        assert not certificates.replace([two, broken])
        assert not certificates.replace([])
    assert [line["event"] for line in logs] == ["certificates not replaced"] * 2
    assert served(certificates, "two.example.test") == pem(one)
    assert certificates.replace([two, one])
    assert (served(certificates, None), served(certificates, "one.example.test")) == (pem(two), pem(one))


def test_of_the_same_pairs_each_good_one_is_used(make_pair: MakePair) -> None:
    one, two = make_pair("one", "one.example.test"), make_pair("two", "two.example.test")
    newer, before = make_pair("newer", "one.example.test"), pem(two)
    certificates = Certificates([one, two])
    replace(one, newer)
    two.key.unlink()
    assert not certificates.replace([one, two])
    assert served(certificates, "one.example.test") == pem(newer)
    assert served(certificates, "two.example.test") == before


def test_names_wildcards_and_the_default(make_pair: MakePair) -> None:
    one = make_pair("one", "one.example.test", "mail.one.example.test")
    two = make_pair("two", "*.two.example.test")
    certificates = Certificates([one, two])
    for name, expected in [
        ("mail.one.example.test", one),
        ("imap.two.example.test", two),
        ("IMAP.TWO.example.test", two),
        ("two.example.test", one),
        ("a.b.two.example.test", one),
        (None, one),
    ]:
        assert served(certificates, name) == pem(expected), name


def test_what_cannot_be_used_is_refused_at_the_start(make_pair: MakePair, tmp_path: Path) -> None:
    good, other = make_pair("good", "a.example.test"), make_pair("other", "b.example.test")
    garbage = tmp_path / "garbage"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    for files in (
        CertificateFiles(good.certificate, other.key),
        CertificateFiles(good.certificate, tmp_path / "missing"),
        CertificateFiles(garbage, good.key),
    ):
        with pytest.raises(CertificateError):
            Certificates([files])
    with pytest.raises(CertificateError):
        Certificates([])


def test_an_encrypted_key_is_refused_without_a_prompt(make_pair: MakePair) -> None:
    from cryptography.hazmat.primitives import serialization

    good = make_pair("good", "a.example.test")
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    good.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertificateError, match="encrypted"):
        Certificates([good])


def test_expiry_is_shown_in_days_with_a_warning_under_14(make_pair: MakePair) -> None:
    certificates = Certificates(
        [make_pair("long", "long.example.test", days=90), make_pair("short", "short.example.test", days=13.5)]
    )
    now = datetime.now(UTC)
    days = {each.name: each.days_left(now) for each in certificates.expiries()}
    assert days == {
        "long.example.test": pytest.approx(90, abs=0.1),
        "short.example.test": pytest.approx(13.5, abs=0.1),
    }
    with capture_logs() as logs:
        certificates.warn_of_expiry(now)
    assert [(line["log_level"], line["name"]) for line in logs] == [("warning", "short.example.test")]


def test_old_tls_versions_are_not_spoken(make_pair: MakePair) -> None:
    context = Certificates([make_pair("server", "localhost")]).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_configured_hosts_go_before_the_names_in_the_certificate(make_pair: MakePair) -> None:
    one, two = make_pair("one", "one.example.test"), make_pair("two", "two.example.test")
    two = CertificateFiles(two.certificate, two.key, ("mail.example.test",))
    certificates = Certificates([one, two])
    assert served(certificates, "mail.example.test") == pem(two)
    assert served(certificates, "two.example.test") == pem(one)
