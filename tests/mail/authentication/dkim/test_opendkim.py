"""Our signatures are verified by opendkim, and those of opendkim by us, without a milter and without DNS."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restante_mail.authentication.dkim.canonicalization import Canonicalization
from restante_mail.authentication.dkim.sign import Form, sign
from restante_mail.authentication.dkim.signing_keys import public_record
from restante_mail.authentication.results import Result
from tests.mail.authentication.dkim.answers import key, pem, published, verified

RSA = key()
FORMS = [Form(header, body) for header in Canonicalization for body in Canonicalization]
MESSAGE = (
    b"Received: from a\r\n\tby  b\r\nFrom: Bob  <b@example.org>\r\nTo: alice@example.test,\r\n\tcarol@example.test\r\n"
    b"Subject: Hello  there \r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <a@example.org>\r\n"
    b"List-Unsubscribe: <https://example.org/u>\r\n\r\nHello  \tyou \r\n\r\n \r\nThe end\r\n\r\n"
)


def opendkim(directory: Path, message: bytes, **settings: str) -> str:
    """The output of opendkim for one message, which it reads from a file."""
    (directory / "message").write_bytes(message)
    lines = {"Syslog": "no", "Socket": f"local:{directory}/socket", **settings}
    (directory / "conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    command = ["opendkim", "-x", "conf", "-t", "message", "-vvv"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.needs("opendkim")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_opendkim_verifies_our_signature(tmp_path: Path, form: Form) -> None:
    (tmp_path / "keys").write_text(f"r._domainkey.example.org {public_record(RSA)}\n")
    settings = {"Mode": "v", "TestPublicKeys": str(tmp_path / "keys")}
    signed = sign(MESSAGE, [RSA], datetime.now(UTC), form=form) + MESSAGE
    assert "dkim=pass (2048-bit key)" in opendkim(tmp_path, signed, **settings)
    assert "dkim=fail" in opendkim(tmp_path, signed.replace(b"The end", b"The End"), **settings)


@pytest.mark.needs("opendkim")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_we_verify_a_signature_of_opendkim(tmp_path: Path, form: Form) -> None:
    (tmp_path / "key").write_bytes(pem(RSA))
    (tmp_path / "key").chmod(0o600)
    settings = {"Mode": "s", "Domain": "example.org", "Selector": "r", "KeyFile": str(tmp_path / "key")}
    # A folder that others may write to, as one in /tmp, is no reason to refuse the key of a test.
    settings |= {"Canonicalization": str(form), "OversignHeaders": "From,Cc", "RequireSafeKeys": "no"}
    settings["InternalHosts"] = "0.0.0.0/0"
    output = opendkim(tmp_path, MESSAGE, **settings)
    field = re.search(r"hname='DKIM-Signature' hvalue='([^']*)'", output)
    assert field is not None, output
    content = b"DKIM-Signature: " + field[1].replace("\n", "\r\n").encode() + b"\r\n" + MESSAGE
    (result,) = verified(content, published(RSA), datetime.now(UTC))
    assert (result.result, result.problem) == (Result.PASS, "")
