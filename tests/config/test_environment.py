import pytest

from kici.config.environment import is_loopback, read_environment

URL = {"KICI_CLUSTER_COORDINATOR_URL": "ws://c:4000"}


def _problems(**environ):
    return {each.where: each.what for each in read_environment({**URL, **environ}).problems}


def test_a_complete_environment_has_no_problem():
    reading = read_environment({**URL, "KICI_CLUSTER_ROLE": "worker", "KICI_PORT": "4001"})
    assert reading.problems == []
    assert reading.values["port"] == 4001
    assert reading.values["coordinator_urls"] == ("ws://c:4000",)


# W4
def test_without_a_coordinator_url_both_variables_are_named():
    (problem,) = read_environment({}).problems
    assert "KICI_CLUSTER_COORDINATOR_URL" in problem.where
    assert "KICI_CLUSTER_COORDINATOR_URLS" in problem.what


# W5
def test_a_list_of_blanks_is_no_list():
    reading = read_environment({**URL, "KICI_CLUSTER_COORDINATOR_URLS": " , "})
    assert reading.values["coordinator_urls"] == ("ws://c:4000",)
    assert read_environment({"KICI_CLUSTER_COORDINATOR_URLS": " , "}).problems


# W6
def test_the_plural_wins_and_the_same_url_counts_once():
    reading = read_environment({**URL, "KICI_CLUSTER_COORDINATOR_URLS": "ws://a, wss://b,ws://a"})
    assert reading.values["coordinator_urls"] == ("ws://a", "wss://b")


# W7, W8, W9, W10, W11, W17
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KICI_PORT", "abc", "0 to 65535, found 'abc'"),
        ("KICI_PORT", "65536", "65535"),
        ("KICI_LOG_LEVEL", "verbose", "debug | info | warn | error"),
        ("KICI_DISPATCH_ACK_TIMEOUT_MS", "10", ">= 1000"),
        ("KICI_SCALER_SPAWN_TIMEOUT_MS", "x", ">= 1000"),
        ("KICI_AGENT_AUTH", "foo", "token | none"),
        ("KICI_CLUSTER_ROLE", "Worker", "worker"),
        ("KICI_ORCHESTRATOR_URL", "http://h", "ws://"),
        ("KICI_LOKI_URL", "loki", "http://"),
        ("KICI_DRAIN_TIMEOUT", "soon", "5m"),
        ("KICI_AGENT_ENV_", "x", "name"),
        ("KICI_BASE_PATH", "/\u00e4", "/kici"),
        ("KICI_BASE_PATH", "/a%20b", "/kici"),
        ("KICI_BASE_PATH", "/a/../b", "/kici"),
        ("KICI_BASE_PATH", "/<x>", "/kici"),
    ],
)
def test_a_wrong_value_is_a_problem_of_its_variable(name, value, says):
    problems = _problems(**{name: value})
    assert list(problems) == [name]
    assert says in problems[name]


# W33
def test_a_coordinator_url_that_is_none_is_a_problem_once():
    (problem,) = read_environment({"KICI_CLUSTER_COORDINATOR_URL": "nowhere"}).problems
    assert "expected a URL" in problem.what


# W12
def test_two_wrong_variables_are_reported_together():
    assert set(_problems(KICI_PORT="x", KICI_LOG_LEVEL="y")) == {"KICI_PORT", "KICI_LOG_LEVEL"}


# W13
def test_an_unknown_variable_is_a_problem_with_a_suggestion():
    problems = _problems(KICI_PROT="1", KICI_FOO="1")
    assert "did you mean KICI_PORT?" in problems["KICI_PROT"]
    assert "unknown variable" in problems["KICI_FOO"]


# W14
def test_an_unknown_variable_is_a_warning_for_developers():
    reading = read_environment({**URL, "KICI_FOO": "1", "KICI_DEV": "true"})
    assert reading.problems == []
    assert any("KICI_FOO" in warning for warning in reading.warnings)


# W3, W15, W16
def test_names_of_other_roles_and_versions_are_accepted_with_any_value():
    names = ("MODE", "CACHE", "E2E_X", "X_ENV_PROBE", "DATABASE_URL", "CONFIG", "SECRET_KEY")
    assert _problems(**{f"KICI_{name}": "anything" for name in names}) == {}


def test_a_name_of_the_original_that_looks_like_ours_gets_advice():
    reading = read_environment({**URL, "KICI_SERVER_PORT": "5000"})
    assert any("set KICI_PORT" in warning for warning in reading.warnings)


# W36
def test_an_empty_value_counts_as_unset():
    reading = read_environment({**URL, "KICI_PORT": "", "KICI_LOG_LEVEL": " "})
    assert reading.problems == []
    assert "port" not in reading.values


def test_an_unknown_log_format_falls_back_with_a_warning():
    reading = read_environment({**URL, "KICI_LOG_FORMAT": "xml"})
    assert reading.problems == []
    assert "log_format" not in reading.values
    assert "KICI_LOG_FORMAT" in reading.warnings[0]


# W91
@pytest.mark.parametrize(
    ("environ", "accepted"),
    [
        ({}, False),
        ({"KICI_HOST": "192.168.1.5"}, False),
        ({"KICI_HOST": "127.0.0.1"}, True),
        ({"KICI_HOST": "::1"}, True),
        ({"KICI_HOST": "localhost"}, True),
        ({"KICI_INSECURE_AGENT_AUTH": "true"}, True),
    ],
)
def test_agents_without_tokens_need_a_loopback_address_or_an_override(environ, accepted):
    assert (_problems(KICI_AGENT_AUTH="none", **environ) == {}) == accepted


def test_loopback_is_told_from_the_rest():
    assert [is_loopback(h) for h in ("127.3.2.1", "[::1]", "0.0.0.0", "::", "pi.local")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_variables_for_agents_lose_their_prefix_and_keep_empty_values():
    reading = read_environment({**URL, "KICI_AGENT_ENV_HTTP_PROXY": "p", "KICI_AGENT_ENV_E": ""})
    assert reading.values["agent_env"] == {"HTTP_PROXY": "p", "E": ""}


# W17
def test_no_error_repeats_a_secret():
    problems = _problems(
        KICI_CLUSTER_JOIN_TOKEN="hunter2",
        KICI_ADMIN_TOKEN="hunter2",
        KICI_LOKI_URL="x://u:hunter2@h",
        KICI_CLUSTER_COORDINATOR_URLS="ftp://u:hunter2@h",
    )
    assert problems
    assert "hunter2" not in repr(problems)
    assert "hunter2" not in repr(read_environment({**URL, "KICI_ADMIN_TOKEN": "hunter2"}))
