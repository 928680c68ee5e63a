import pytest

from kici.config import parsers


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parsers.integer(0, 65535), "4000", 4000),
        (parsers.integer(0, 65535), " 4000 ", 4000),
        (parsers.integer(0, 65535), "4e3", 4000),
        (parsers.milliseconds(), "1500", 1.5),
        (parsers.milliseconds(), "0.5e3", 0.5),
        (parsers.duration(), "300", 300.0),
        (parsers.duration(), "5m", 300.0),
        (parsers.duration(), "1.5h", 5400.0),
        (parsers.duration(), "250ms", 0.25),
        (parsers.duration(), "0", 0.0),
        (parsers.size, "500m", 500 * 2**20),
        (parsers.size, "1G", 2**30),
        (parsers.size, "64kb", 65536),
        (parsers.size, "1024", 1024),
        (parsers.days, "7", 7.0),
        (parsers.days, "0.5", 0.5),
        (parsers.boolean, "True", True),
        (parsers.boolean, "0", False),
        (parsers.comma_list, " a, ,b,a,", ("a", "b")),
        (parsers.base_path, "/", "/"),
        (parsers.base_path, "kici/", "/kici"),
        (parsers.choice("a", "b"), "b", "b"),
    ],
)
def test_a_good_text_becomes_its_value(parse, text, value):
    assert parse(text) == value


# W17
@pytest.mark.parametrize(
    ("parse", "text", "accepted"),
    [
        (parsers.integer(0, 65535), "abc", "whole number from 0 to 65535"),
        (parsers.integer(0, 65535), "65536", "from 0 to 65535"),
        (parsers.integer(0, 65535), "1.5", "whole number"),
        (parsers.integer(0, 65535), "-1", "from 0 to 65535"),
        (parsers.integer(0, 65535), "nan", "whole number"),
        (parsers.integer(0, 65535), "1e999", "whole number"),
        (parsers.integer(0, 65535), "٤٠٠٠", "whole number from 0 to 65535"),
        (parsers.milliseconds(), "１５００", "milliseconds"),
        (parsers.duration(), "९०s", "5m"),
        (parsers.size, "٥٠٠m", "500m"),
        (parsers.days, "७", "days > 0"),
        (parsers.milliseconds(1000), "10", ">= 1000"),
        (parsers.milliseconds(), "-5", "milliseconds"),
        (parsers.duration(), "5 minutes", "5m"),
        (parsers.duration(60), "1s", "at least 60 s"),
        (parsers.size, "0", "500m"),
        (parsers.size, "lots", "500m"),
        (parsers.days, "-1", "days > 0"),
        (parsers.boolean, "maybe", "true or false"),
        (parsers.base_path, "/a b", "path"),
        (parsers.choice("a", "b"), "B", "a | b"),
    ],
)
def test_a_wrong_text_is_refused_with_what_is_accepted_and_what_was_found(parse, text, accepted):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert accepted in str(caught.value)
    assert text in str(caught.value)


def test_an_error_repeats_only_the_beginning_of_a_long_value():
    with pytest.raises(ValueError) as caught:
        parsers.boolean("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_a_secret_hides_itself():
    secret = parsers.secret(" hunter2\n")
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r}"
