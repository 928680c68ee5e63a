"""YAML 1.2 core schema on top of PyYAML, which speaks 1.1 (scaler spec 1.2).

Differences that matter: ``yes``/``on``/``1_000``/``12:30``/dates are texts, ``010`` is ten,
``0o17`` is fifteen, ``<<`` is a plain key, unknown tags are ignored, keys become texts, and a
repeated key is an error. A ``%YAML 1.1`` directive switches scalars back to the 1.1 rules.
"""

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

#: A scaler file is a page; the bound keeps a wrong path from filling the memory.
MAX_BYTES = 1024 * 1024
#: Nodes after expansion of aliases: a bomb of ten lines has millions.
MAX_NODES = 100_000
#: The schema is six deep; PyYAML composes recursively.
MAX_DEPTH = 64

_CORE = "tag:yaml.org,2002:"
#: What PyYAML's and our constructors raise for an explicit tag on a value it does not fit.
_UNFIT = (ValueError, KeyError, TypeError, AttributeError, IndexError)
_DIRECTIVE_11 = re.compile(r"\A\ufeff?(?:[ \t]*#[^\n]*\n|[ \t]*\n|%[^\n]*\n)*?%YAML[ \t]+1\.1\s")
_BIG = float("inf")


class YamlError(ValueError):
    """``line`` counts from 1; 0 when it is not known."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {what}" if line else what)
        self.what = what
        self.line = line


def load(text: str) -> Any:
    """The single document of ``text`` as dict/list/str/int/float/bool/None/bytes.

    An empty text is None. Raises ``YamlError``.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(f"larger than {MAX_BYTES} bytes")
    try:
        loader = (_Loader11 if _DIRECTIVE_11.match(text) else _Loader12)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(text for text in (error.context, error.problem) if text)
        raise YamlError(what, mark.line + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        raise YamlError(f"a character that YAML does not allow, at {error.position}") from None


class _Loader(yaml.SafeLoader):
    """What both rule sets share: bounds, strict keys, no merging, lenient tags."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH}", self.line + 1)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except YamlError:
            raise
        except _UNFIT:  # its text may quote the value, which may be a secret
            raise YamlError("a value does not fit its tag", _line(node)) from None

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys are compared as values (``1`` is not ``"1"``), then become texts."""
        mapping: dict[Any, Any] = {}
        seen: set[tuple[str, Any]] = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise YamlError("a mapping key must be a plain value", _line(key_node))
            key = self.construct_object(key_node, deep=True)
            identity = (_kind(key), key)
            if identity in seen:
                raise YamlError(f"duplicate key {key_text(key)!r}", _line(key_node))
            seen.add(identity)
            mapping[key_text(key)] = self.construct_object(value_node, deep=deep)
        return mapping

    def construct_list(self, node: SequenceNode) -> list[Any]:
        return list(self.construct_sequence(node, deep=True))

    def construct_dict(self, node: MappingNode) -> dict[Any, Any]:
        return self.construct_mapping(node, deep=True)

    def construct_unknown(self, node: Node) -> Any:
        """The tag is ignored, the value kept."""
        if isinstance(node, SequenceNode):
            return self.construct_list(node)
        if isinstance(node, MappingNode):
            return self.construct_dict(node)
        return node.value


class _Loader12(_Loader):
    yaml_implicit_resolvers: dict[Any, Any] = {}

    def construct_int12(self, node: ScalarNode) -> int | float:
        text = node.value
        if text[:2] in ("0o", "0x"):
            return _whole(text[2:], 8 if text[1] == "o" else 16)
        return _whole(text, 10)

    def construct_float12(self, node: ScalarNode) -> float:
        return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def construct_bool12(self, node: ScalarNode) -> bool:
        return bool(node.value.lower() == "true")


class _Loader11(_Loader):
    """PyYAML's own rules, without dates and merging."""

    yaml_implicit_resolvers = {
        first: [rule for rule in rules if not rule[0].endswith((":timestamp", ":merge", ":value"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _whole(digits: str, base: int) -> int | float:
    try:
        return int(digits, base)
    except ValueError:  # more digits than Python converts: out of every range anyway
        return _BIG


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(key: Any) -> str:
    if isinstance(key, bool) or not isinstance(key, int | float):
        return type(key).__name__
    return "number"


def key_text(key: Any) -> str:
    """A key as the reference writes it: ``True`` is ``true``, ``1.0`` is ``1``, null is empty."""
    if key is None:
        return ""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, float) and key.is_integer():
        return str(int(key))
    return str(key)


def _count(node: Node, known: dict[int, int]) -> int:
    """Nodes below ``node`` with aliases expanded; 0 in ``known`` marks one that is open."""
    size = known.get(id(node))
    if size == 0:
        raise YamlError("an anchor contains itself", _line(node))
    if size is not None:
        return size
    known[id(node)] = 0
    children = node.value if isinstance(node, SequenceNode) else []
    if isinstance(node, MappingNode):
        children = [child for pair in node.value for child in pair]
    size = 1 + sum(_count(child, known) for child in children)
    if size > MAX_NODES:
        raise YamlError(f"more than {MAX_NODES} values after expanding aliases", _line(node))
    known[id(node)] = size
    return size


_SIGN = r"[-+]?"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", rf"{_SIGN}[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        rf"{_SIGN}(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE]{_SIGN}[0-9]+)?"
        rf"|{_SIGN}\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader12.add_implicit_resolver(_CORE + _tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))

_COMMON = {
    _CORE + "str": _Loader.construct_yaml_str,
    _CORE + "null": _Loader.construct_yaml_null,
    _CORE + "binary": _Loader.construct_yaml_binary,
    _CORE + "seq": _Loader.construct_list,
    _CORE + "map": _Loader.construct_dict,
    None: _Loader.construct_unknown,
}
_Loader12.yaml_constructors = {
    **_COMMON,
    _CORE + "int": _Loader12.construct_int12,
    _CORE + "float": _Loader12.construct_float12,
    _CORE + "bool": _Loader12.construct_bool12,
}
_Loader11.yaml_constructors = {
    **_COMMON,
    _CORE + "int": _Loader11.construct_yaml_int,
    _CORE + "float": _Loader11.construct_yaml_float,
    _CORE + "bool": _Loader11.construct_yaml_bool,
}
