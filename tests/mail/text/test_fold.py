"""Folding word by word, held to its definition over the whole text."""

from __future__ import annotations

import re
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from restante_mail.text.fold import fold

DROPPED = re.compile("[\u0300-\u036f\u00ad\u200b-\u200d\u2060\ufeff]")
ALL = map(chr, range(sys.maxunicode + 1))
CHARACTERS = [character for character in ALL if unicodedata.category(character) not in ("Cn", "Co", "Cs")]
MARKS = [character for character in CHARACTERS if unicodedata.combining(character)]


def definition(text: str) -> str:
    """The fold as Unicode defines its steps: compatibility caseless form, without diacritics, single spaces."""
    for _ in range(2):
        text = unicodedata.normalize("NFKD", text).casefold()
    text = unicodedata.normalize("NFC", DROPPED.sub("", unicodedata.normalize("NFKD", text)))
    return re.sub(r"\s+", " ", text)


def test_every_character_folds_as_defined_alone_and_between_others() -> None:
    for character in CHARACTERS:
        text = f"{character} A{character}Z\u0301 {character}\u3099 "
        assert fold(text) == definition(text), hex(ord(character))


@given(
    st.lists(
        st.sampled_from("aZ Σςİß\u00a0\u1680\u3000\u2028\x1c\t\n\u00ad\u200bé각가かガÅǅﬁ¨Ꭰꭰ") | st.sampled_from(MARKS)
    )
)
def test_texts_fold_as_defined(characters: list[str]) -> None:
    text = "".join(characters)
    assert fold(text) == definition(text)
