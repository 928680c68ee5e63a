"""A later version of built packages, made without building: for tests of upgrades."""

import subprocess
from pathlib import Path

VERSION = "0.9.0"


def make(packages: Path, into: Path) -> None:
    """Every .deb of ``packages`` as version 0.9.0-1, code and dependencies included."""
    into.mkdir(parents=True, exist_ok=True)
    for deb in packages.glob("*.deb"):
        tree = into / "tree"
        subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
        control = tree / "DEBIAN/control"
        text = control.read_text()
        old = next(row for row in text.splitlines() if row.startswith("Version: ")).split()[1]
        control.write_text(text.replace(old, f"{VERSION}-1"))
        for code in tree.glob("usr/lib/python3*/dist-packages/kici/__init__.py"):
            upstream = old.rpartition("-")[0]
            code.write_text(code.read_text().replace(f'"{upstream}"', f'"{VERSION}"'))
        name = deb.name.replace(f"_{old}_", f"_{VERSION}-1_")
        pack = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, into / name]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["rm", "-r", tree], check=True)
