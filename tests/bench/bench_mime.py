"""CPU of one message: canonical check, scan and stored tree; chosen header fields; search of its body. Prints JSON.

python tests/bench/bench_mime.py [--rounds N]
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from restante_mail.canonical import canonicalise
from restante_mail.header.fields import header_end, header_fields
from restante_mail.mime.facts import scan
from restante_mail.mime.parts import encode
from restante_server.store.examine import Examined
from restante_server.store.restriction import HasText, TextField

CORPUS = Path(__file__).parents[2] / ".." / "shared" / "corpus"  # beside the repository

HEADER = (
    b"Received: from a.example.net (a.example.net [192.0.2.1])\r\n\tby mx.example.test with ESMTPS id abc\r\n"
    b"\tfor <alice@example.test>; Tue, 1 Sep 2026 10:00:00 +0200\r\n"
    b'From: "Bob Example" <bob@example.net>\r\nTo: Alice <alice@example.test>, carol@example.test\r\n'
    b"Cc: Carol <carol@example.org>\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= from here\r\n"
    b"Date: Tue, 1 Sep 2026 10:00:00 +0200\r\nMessage-ID: <abc.123@example.net>\r\nIn-Reply-To: <x.1@example.net>\r\n"
    b"References: <x.0@example.net> <x.1@example.net>\r\nMIME-Version: 1.0\r\n"
)


def single(octets: int) -> bytes:
    """A plain message of about `octets`."""
    line = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod\r\n"
    return HEADER + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + line * ((octets - len(HEADER)) // len(line))


def multipart(octets: int) -> bytes:
    """Plain and HTML text, and an attachment that fills it up to about `octets`."""
    attachment = base64.encodebytes(bytes(range(256)) * max(1, (octets - 8_000) * 3 // 4 // 256)).replace(
        b"\n", b"\r\n"
    )
    return b"".join(
        [
            HEADER + b'Content-Type: multipart/mixed; boundary="=_outer"\r\n\r\npreamble\r\n--=_outer\r\n',
            b"Content-Type: multipart/alternative;\r\n boundary=inner\r\n\r\n--inner\r\n",
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
            b"Gr=C3=BC=C3=9Fe aus dem Norden und so weiter\r\n" * 40,
            b"--inner\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>",
            b"<p>hello <b>world</b></p>\r\n" * 200,
            b'</body></html>\r\n--inner--\r\n--=_outer\r\nContent-Type: application/pdf; name="a b.pdf"\r\n',
            b'Content-Disposition: attachment; filename="a b.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n',
            attachment,
            b"--=_outer--\r\n",
        ]
    )


FIELDS = ("date", "from", "to", "cc", "subject", "message-id", "references")
NOWHERE = HasText(TextField.BODY, "quicksilver")


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """CPU of `work`, the best of five runs of `rounds`."""
    return min(timeit.repeat(work, timer=time.process_time, number=rounds, repeat=5)) / rounds * 1_000


def parsed(content: bytes) -> bytes:
    """The work on a message that comes in."""
    return encode(scan(canonicalise(content).octets).tree)


def cpu_milliseconds(content: bytes, rounds: int) -> float:
    return milliseconds(lambda: parsed(content), rounds)


def figures_of(content: bytes, rounds: int) -> dict[str, float]:
    """The CPU milliseconds of each kind of work on one message."""
    structure = parsed(content)
    header = content[: header_end(content)]
    return {
        "octets": len(content),
        "cpu_milliseconds": round(cpu_milliseconds(content, rounds), 4),
        "header_fields": round(milliseconds(lambda: header_fields(header, FIELDS), rounds), 4),
        "search_body": round(milliseconds(lambda: Examined(b"", content, structure).holds(NOWHERE), rounds), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    made = {"single_2k": single(2_000), "multipart_20k": multipart(20_000), "multipart_200k": multipart(200_000)}
    figures: dict[str, object] = {name: figures_of(content, rounds) for name, content in made.items()}
    contents = [canonicalise(path.read_bytes()).octets for path in sorted(CORPUS.glob("*/*.msg"))]
    if contents:
        each = [cpu_milliseconds(content, max(1, rounds // 10)) for content in contents]
        figures["corpus"] = {
            "messages": len(contents),
            "octets": sum(map(len, contents)),
            "cpu_milliseconds_mean": round(sum(each) / len(each), 4),
            "cpu_milliseconds_worst": round(max(each), 4),
        }
    json.dump({"bench": "mime", "python": sys.version.split()[0], "figures": figures}, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
