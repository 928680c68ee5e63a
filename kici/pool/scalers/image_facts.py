"""What an engine says about an image; ids are written without ``sha256:``."""

from typing import Any

import msgspec

from kici.pool.scalers.engine import MISSING, TRANSPORT, classify


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``names`` are its tags, as the engine spells them."""

    image_id: str
    n_bytes: int
    names: tuple[str, ...]


def image_facts(client: Any, name: str) -> ImageFacts | None:
    """None when there is no image ``name``; ``EngineError`` when the engine does not say."""
    try:
        told = client.inspect_image(name)
    except TRANSPORT as error:
        known = classify(error)
        if known.kind != MISSING:
            raise known from None
        return None
    names = told.get("RepoTags") or ()
    return ImageFacts(
        image_id=plain_id(told["Id"]),
        n_bytes=int(told.get("Size") or 0),
        names=tuple(one for one in names if one != "<none>:<none>"),
    )


def plain_id(text: str) -> str:
    """Docker writes ``sha256:`` before ids, Podman does not always."""
    return text.removeprefix("sha256:")
