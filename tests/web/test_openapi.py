"""The OpenAPI document and the routes say the same."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kici.config.model import Config, ScalerConfig
from kici.web.app import make_app
from kici.web.desk import Desk
from kici.web.history import History
from tests.support.web_child import WebChild, capacity, finished, job, peer_state, settings, slot

DOCUMENT = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "kici/web/openapi.yaml").read_text()
)
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def routes(tmp_path: Path) -> set[tuple[str, str]]:
    config = Config(settings=settings(str(tmp_path)), scalers=ScalerConfig())
    desk = Desk(config, History(f"{tmp_path}/h", "b"), lambda to, message: None, 0.0)
    rules = make_app(desk, ()).url_map.iter_rules()
    return {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in rules
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }


def test_every_route_is_described_and_nothing_else(tmp_path: Path) -> None:
    described = {
        (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations
    }
    assert described == routes(tmp_path)


def conforms(value: Any, schema: dict[str, Any], where: str = "$") -> None:
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        return conforms(value, resolve(schema["$ref"]), where)
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    kinds = schema.get("type")
    if kinds:
        allowed = [kinds] if isinstance(kinds, str) else kinds
        assert any(isinstance(value, TYPES[kind]) for kind in allowed), f"{where}: {value!r}"
    if isinstance(value, dict):
        check_object(value, schema, where)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            conforms(item, schema["items"], f"{where}[{index}]")
    return None


def check_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    assert set(schema.get("required", ())) <= set(value), where
    known = schema.get("properties")
    if known:
        assert set(value) <= set(known), f"{where}: undescribed {set(value) - set(known)}"
        for name, item in value.items():
            conforms(item, known[name], f"{where}.{name}")


def resolve(reference: str) -> dict[str, Any]:
    found = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory):
    child = WebChild(tmp_path_factory.mktemp("web"))
    child.peer.tell(peer_state(1, "connected"))
    child.pool.tell(capacity(1, slot("a", 1)))
    child.pool.tell(job(1, "j-1"))
    child.pool.tell(finished(2, "j-0"))
    child.eventually("/status", lambda b: b["recentJobs"])
    yield child
    child.close()


def answers_json(operations: dict[str, Any]) -> bool:
    answer = operations.get("get", {}).get("responses", {}).get("200", {})
    return "application/json" in answer.get("content", {})


@pytest.mark.parametrize("path", [p for p, ops in DOCUMENT["paths"].items() if answers_json(ops)])
def test_what_is_answered_has_the_described_shape(filled: WebChild, path: str) -> None:
    answer = DOCUMENT["paths"][path]["get"]["responses"]["200"]
    conforms(filled.json(path), answer["content"]["application/json"]["schema"], path)


def test_the_document_is_served(filled: WebChild) -> None:
    status, headers, body = filled.request("GET", "/api/v1/openapi.yaml")
    assert (status, headers["content-type"]) == (200, "application/yaml")
    assert yaml.safe_load(body)["info"]["title"] == "KiCI worker"
