"""Package metadata. Versions: the floor is what Debian 13 (trixie) ships."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "kici/__init__.py").read_text())[1]

setup(
    name="kici-worker",
    version=VERSION,
    description="Edge worker of the KiCI continuous-integration system",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["kici", "kici.*"]),
    package_data={"kici.web": ["templates/*", "templates/parts/*", "static/*", "*.yaml"]},
    install_requires=[
        "gevent>=24.11",
        "gevent-websocket>=0.10.1",
        "flask>=3.1",
        "supervisor>=4.2.5",
        "PyYAML>=6.0",
        "docker>=7.1",
        "python-json-logger>=3.3",
        "msgspec>=0.19",
        "cryptography>=43",
        "websockets>=15.0",
        "prometheus-client>=0.21",
        "setproctitle>=1.3",
    ],
    entry_points={
        "console_scripts": [
            "kici-worker=kici.cli.worker:main",
            "kici-workerctl=kici.cli.workerctl:main",
            "kici-coordinator=kici.cli.coordinator:main",
            "kici-agent=kici.cli.agent:main",
            "kici-admin=kici.cli.admin:main",
            "kici=kici.cli.user:main",
        ]
    },
)
