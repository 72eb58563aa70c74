"""Fields of protobuf messages that were encoded apart. *Pure.*

The encodings of the parts of a message, one after the other, are an encoding of the whole message. So a large field is
encoded once, and not copied again with each message around it.
"""

from __future__ import annotations

_LENGTH_DELIMITED = 2  # the wire type of messages and octets


def varint(number: int) -> bytes:
    """A number from 0 on."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def tag(field_number: int) -> bytes:
    """The beginning of a field that is a message; its length and its encoding follow."""
    return varint(field_number << 3 | _LENGTH_DELIMITED)
