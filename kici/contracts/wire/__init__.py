"""Messages on real sockets, in the protocol's own words (specs: peer, agent).

Rules for every struct here: keys are camelCase on the wire; unknown keys are ignored on
reception; ``None`` means absent and is never sent, except in fields without a default,
which the specs call required-nullable.
"""

import msgspec

#: A JSON number: the specs allow fractions wherever they do not say "int".
Number = int | float


class Wire(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    tag_field="type",
):
    """Base of every tagged wire message; ``tag`` is the protocol's type string."""


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of objects inside messages, which carry no type of their own."""


#: One encoder for all wire messages; ``order=None`` keeps the order of the fields.
_encoder = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """JSON bytes of a wire message."""
    return _encoder.encode(message)
