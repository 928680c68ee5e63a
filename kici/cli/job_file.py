"""Reads the YAML or JSON file of ``kici run`` and fetches the secrets it names."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kici.cli.verbs import EXIT_USAGE, Failed

#: A file with a secret is a line or a key, not a disk image.
MAX_SECRET_BYTES = 64 * 1024


def read_job_file(path: str, env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The document with the values of its secrets; ``-`` reads stdin. SECRET.

    In a file a secret is only ever a reference: ``{env: NAME}``, ``{file: PATH}`` (relative
    to the document, a final newline is cut) or, as a list, names of variables.
    """
    from kici.config.yaml12 import YamlError, load

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        document = load(text)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}", EXIT_USAGE) from None
    except (YamlError, UnicodeError) as error:
        raise Failed(f"{path}: {error}", EXIT_USAGE) from None
    if not isinstance(document, dict):
        raise Failed(f"{path}: expected a mapping", EXIT_USAGE)
    folder = Path.cwd() if path == "-" else Path(path).parent
    secrets, problems = _secrets(document.get("secrets"), folder, env)
    if problems:
        raise Failed("\n".join([f"{path}: secrets are missing", *problems]), EXIT_USAGE)
    return {**document, "secrets": secrets}


def _secrets(named: Any, folder: Path, env: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    if named is None:
        return {}, []
    if isinstance(named, list):
        named = {str(name): {"env": str(name)} for name in named}
    if not isinstance(named, dict):
        return {}, ["  - secrets: expected a mapping of names to {env: NAME} or {file: PATH}"]
    found: dict[str, str] = {}
    problems = []
    for name, reference in named.items():
        try:
            found[name] = _fetch(reference, folder, env)
        except ValueError as error:
            problems.append(f"  - secrets.{name}: {error}")
    return found, problems


def _fetch(reference: Any, folder: Path, env: Mapping[str, str]) -> str:
    """One value; ``ValueError`` says what is missing and never shows a value."""
    if not isinstance(reference, dict) or len(reference) != 1:
        raise ValueError("expected {env: NAME} or {file: PATH}; a value may not stand here")
    ((kind, where),) = reference.items()
    if kind == "env" and isinstance(where, str):
        if where not in env:
            raise ValueError(f"the variable {where} is not set")
        return env[where]
    if kind == "file" and isinstance(where, str):
        return _from_file(folder / Path(where).expanduser())
    raise ValueError("expected {env: NAME} or {file: PATH}")


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            value = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if len(value) > MAX_SECRET_BYTES:
        raise ValueError(f"{path}: larger than {MAX_SECRET_BYTES} bytes")
    try:
        return value.decode("utf-8").removesuffix("\n")
    except UnicodeError:
        raise ValueError(f"{path}: not UTF-8") from None
