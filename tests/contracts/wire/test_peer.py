"""kici/contracts/wire/peer/ against the corpus: file names say what each message shows."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from kici.contracts.wire import encode
from kici.contracts.wire.peer import ToCoordinator, ToWorker

CORPUS = Path(__file__).parents[2] / "wire"
DECODERS = {
    "peer-to-worker": msgspec.json.Decoder(ToWorker),
    "peer-to-coordinator": msgspec.json.Decoder(ToCoordinator),
}


def corpus(kind):
    return [
        pytest.param(prefix, path, id=path.stem)
        for prefix in DECODERS
        for path in sorted((CORPUS / kind).glob(f"{prefix}.*.json"))
    ]


@pytest.mark.parametrize(("prefix", "path"), corpus("valid"))
def test_a_valid_message_is_read_and_written_back_equal(prefix, path):
    decoder = DECODERS[prefix]
    message = decoder.decode(path.read_bytes())
    assert decoder.decode(encode(message)) == message


# P68
@pytest.mark.parametrize(("prefix", "path"), corpus("invalid"))
def test_an_invalid_message_is_refused(prefix, path):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        DECODERS[prefix].decode(path.read_bytes())


@pytest.mark.parametrize(
    ("prefix", "union"), [("peer-to-worker", ToWorker), ("peer-to-coordinator", ToCoordinator)]
)
def test_every_type_has_a_valid_example(prefix, union):
    shown = {
        type(DECODERS[prefix].decode(p.values[1].read_bytes()))
        for p in corpus("valid")
        if p.values[0] == prefix
    }
    assert shown == set(get_args(union))
