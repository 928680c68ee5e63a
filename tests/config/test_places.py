import os

import pytest

from kici.config import places


# W28
def test_the_first_directory_that_can_be_written_is_taken(tmp_path, monkeypatch):
    environ = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    usable = places.usable_directory

    def not_var_lib(path, touch=True):
        if path.startswith("/var/lib"):
            raise places.Unusable("/var/lib/kici: Permission denied")
        usable(path, touch)

    monkeypatch.setattr(places, "usable_directory", not_var_lib)
    assert places.data_directory(None, environ) == str(tmp_path / ".local/state/kici")
    environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    assert places.data_directory(None, environ) == str(tmp_path / "state/kici")
    (tmp_path / "state").rename(tmp_path / "gone")
    (tmp_path / "state").touch()
    assert places.data_directory(None, environ) == str(tmp_path / "tmp/kici-data")
    (tmp_path / "tmp/kici-data").rmdir()
    (tmp_path / "tmp/kici-data").touch()
    with pytest.raises(places.Unusable, match="Permission denied.*Not a directory|File exists"):
        places.data_directory(None, environ)


def test_a_directory_is_made_private(tmp_path):
    places.usable_directory(str(tmp_path / "a/b"))
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / "a/b") == []


def test_a_dangling_link_is_no_directory(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(places.Unusable):
        places.creatable_directory(str(tmp_path / "link/below"))


def test_a_small_file_is_bounded_and_text(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    with pytest.raises(places.Unusable, match="larger"):
        places.read_small(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(places.Unusable, match="UTF-8"):
        places.read_small(file)


def test_an_instance_id_file_that_is_empty_is_made_anew(tmp_path):
    (tmp_path / places.INSTANCE_ID_FILE).write_text("\n")
    made = places.instance_id(str(tmp_path))
    assert len(made) == 36
    assert places.instance_id(str(tmp_path)) == made


# W17
def test_a_fifo_or_a_device_is_refused_instead_of_waited_for(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, "/dev/zero"):
        with pytest.raises(places.Unusable, match="not a regular file"):
            places.read_small(path)
