"""The signed messages of the RFCs (RFC 6376 A, RFC 8463 A)."""

from __future__ import annotations

from restante_mail.authentication.results import DkimResult, Result
from tests.mail.authentication.dkim.answers import txt_records, verified
from tests.mail.material import crlf

BRISBANE = (
    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4"
    "jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2"
    "QIDAQAB"
)
# RFC 6376 A, with the white space for which the signature was made (errata 4926 and 3192).
SIMPLE = crlf(
    """\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
"""
)
TWO = crlf(
    """\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
"""
)
FOOTBALL = {
    "brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test._domainkey.football.example.com": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/"
        "J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryO"
        "TIKT+l/K4w3QIDAQAB"
    ),
}


def test_the_example_of_rfc_6376_passes() -> None:
    dns = txt_records({"brisbane._domainkey.example.com": BRISBANE})
    assert verified(SIMPLE, dns, piece=5) == (
        DkimResult(Result.PASS, "example.com", "brisbane", "joe@football.example.com", "rsa-sha256", 1_024, "AuUoFEfD"),
    )


def test_one_more_space_breaks_the_simple_example() -> None:
    dns = txt_records({"brisbane._domainkey.example.com": BRISBANE})
    for changed in (SIMPLE.replace(b"SixPack <", b"SixPack  <"), SIMPLE.replace(b"game. Are", b"game.  Are")):
        assert [each.result for each in verified(changed, dns)] == [Result.FAIL]


def test_both_examples_of_rfc_8463_pass() -> None:
    first, second = verified(TWO, txt_records(FOOTBALL), piece=11)
    at = ("football.example.com", "brisbane", "@football.example.com", "ed25519-sha256")
    assert first == DkimResult(Result.PASS, *at, 256, "/gCrinpc")
    assert (second.result, second.selector, second.key_bits) == (Result.PASS, "test", 1_024)


def test_more_spaces_do_not_break_the_relaxed_examples() -> None:
    changed = TWO.replace(b"game.  Are", b"game. \t Are  ").replace(b"Subject: Is ", b"SUBJECT:Is\r\n\t ")
    assert [each.result for each in verified(changed, txt_records(FOOTBALL))] == [Result.PASS, Result.PASS]
