"""What README tells a newcomer to run, as it is shipped."""

from tests.support.house import ROOT


def test_hello_runs_as_shipped_on_the_worker_of_the_shipped_scalers(house):
    house.write_scalers((ROOT / "examples/scalers.yaml").read_text())
    worker = f"http://127.0.0.1:{house.port}"
    house.command("kici-worker", "reload", "--url", worker)
    done = house.command("kici", "run", str(ROOT / "examples/hello.yaml"), "--follow", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the number is 42" in done.stdout
