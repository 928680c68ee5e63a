"""What the web process reads is in the package."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_template_and_asset_is_packaged() -> None:
    declared = re.search(r'"kici\.web": \[(.*?)\]', (ROOT / "setup.py").read_text(), re.DOTALL)
    assert declared
    web = ROOT / "kici/web"
    packaged = {
        path for pattern in re.findall(r'"(.*?)"', declared[1]) for path in web.glob(pattern)
    }
    needed = {
        path
        for folder in ("templates", "static")
        for path in (web / folder).rglob("*")
        if path.is_file()
    }
    assert needed | {web / "openapi.yaml"} <= packaged
