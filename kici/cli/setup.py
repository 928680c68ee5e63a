"""``kici-worker setup``: three questions, then a worker that runs (Debian package).

Writes ``worker.env``, ``scalers.yaml``, the join token and the unit's drop-in; checks the
result; enables and starts the service. Exit codes: 0 done, 1 not possible, 2 wrong usage.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from kici.cli.envfile import parse
from kici.cli.verbs import EXIT_OK, Failed
from kici.shell.durable import write_atomic

HELP = "ask three questions, write the configuration, start the service"
EPILOG = """\
  kici-worker setup
  kici-worker setup --non-interactive --coordinator-url wss://c:4000 --token-file t \\
      --labels self-hosted,linux,runtime:native --backend host

Exit codes: 0 done, 1 not possible, 2 wrong usage.
"""
BACKENDS = ("host", "docker", "podman")
_DROPINS = {"host": "host-agents", "docker": "docker", "podman": "podman-rootless"}
_SETTINGS = "etc/kici/worker.env"
_EXAMPLES = "/usr/share/doc/kici-worker/examples"
_UNIT_DIRECTORY = "etc/systemd/system/kici-worker.service.d"
_DEFAULT_LABELS = {"host": "self-hosted,linux,runtime:native"}
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+@/-]*")
#: Enabling waits for READY of the unit (TimeoutStartSec=60).
_SYSTEMCTL_S = 120
#: How long a coordinator that is there may take to let us in.
_JOIN_S = 10.0
_POLL_S = 0.1
_NO_ANSWER = "nothing was answered, nothing was written"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coordinator-url", metavar="URL", help="coordinator's peer endpoint")
    parser.add_argument("--token-file", metavar="FILE", help="join token; - reads stdin")
    parser.add_argument("--labels", help="labels of this worker, comma-separated")
    parser.add_argument("--backend", choices=BACKENDS, help="what runs the jobs (default: host)")
    parser.add_argument("--image", default="kici-agent:latest", help="agent image of containers")
    parser.add_argument("--max-agents", type=int, default=2, metavar="N", help="jobs at once")
    parser.add_argument("--non-interactive", action="store_true", help="ask nothing")
    parser.add_argument("--force", action="store_true", help="replace scalers that exist")
    parser.add_argument("--no-start", action="store_true", help="only write the files")
    parser.add_argument("--root", default="/", metavar="DIR", help="write below DIR (images)")


def run(args: argparse.Namespace) -> int:
    root = Path(args.root)
    url = args.coordinator_url or _ask(args, "Coordinator URL (wss://host:4000)")
    token = _token(args)
    backend = args.backend or _ask(args, "What runs jobs (host, docker, podman)", "host")
    if backend not in BACKENDS:
        raise Failed(f"expected one of {', '.join(BACKENDS)}, found {backend!r}")
    fallback = _DEFAULT_LABELS.get(backend, "self-hosted,linux,container")
    labels = args.labels or _ask(args, "Labels", fallback)
    scalers = _scalers(backend, _checked_labels(labels), args.image, args.max_agents)
    try:
        _write_settings(root / _SETTINGS, {"KICI_CLUSTER_COORDINATOR_URL": url})
        _write_scalers(root / "etc/kici/scalers.yaml", scalers, args.force)
        if token:
            write_atomic(root / "etc/kici/join-token", token.encode() + b"\n", 0o600)
        _write_dropin(root, _DROPINS[backend])
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from None
    _check(root)
    if not args.no_start and _start():
        _examine()
    return EXIT_OK


def _ask(args: argparse.Namespace, question: str, default: str = "") -> str:
    if args.non_interactive:
        if default:
            return default
        raise Failed(f"--non-interactive needs a flag for: {question}", 2)
    try:
        answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
    except EOFError:
        answer = ""
    if not answer:
        raise Failed(_NO_ANSWER)
    return answer


def _token(args: argparse.Namespace) -> str:
    """Never a flag: other users see the arguments of a process. Empty when already joined."""
    if args.token_file == "-":
        return sys.stdin.readline().strip()
    if args.token_file:
        try:
            return Path(args.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Failed(f"{args.token_file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Failed(f"{args.token_file}: expected a join token, found no text") from None
    if args.non_interactive:
        return ""
    import getpass

    try:
        return getpass.getpass("Join token (empty when this machine has joined before): ").strip()
    except EOFError:
        raise Failed(_NO_ANSWER) from None


def _checked_labels(text: str) -> list[str]:
    labels = [label.strip() for label in text.split(",") if label.strip()]
    wrong = [label for label in labels if not _LABEL.fullmatch(label)]
    if wrong or not labels:
        raise Failed(f"expected labels like self-hosted,linux, found {text!r}")
    return labels


def _scalers(backend: str, labels: list[str], image: str, max_agents: int) -> str:
    kind = "bare-metal" if backend == "host" else "container"
    runs = "binaryPath: /usr/bin/kici-agent" if backend == "host" else f'image: "{image}"'
    quoted = ", ".join(f'"{label}"' for label in labels)
    lines = [
        "# Written by kici-worker setup; every key: /usr/share/doc/kici-worker/examples.",
        "version: 1",
        "scalers:",
        f"  - name: {backend}",
        f"    type: {kind}",
        f"    maxAgents: {max_agents}",
    ]
    if backend != "host":
        lines.append(f"    runtime: {backend}")
    lines += ["    labelSets:", f"      - labels: [{quoted}]", f"        {runs}", ""]
    return "\n".join(lines)


def _write_settings(path: Path, values: dict[str, str]) -> None:
    """Set variables in the file: in place when they are there, active or commented."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for name, value in values.items():
        if re.search(r"[\s'\"\\]", value):
            raise Failed(f"{name}: expected no blanks and quotes, found {value!r}")
        line, pattern = f"{name}={value}", rf"(?m)^#?{name}=.*$"
        if re.search(pattern, text):
            text = re.sub(pattern, lambda _match, line=line: line, text, count=1)
        else:
            text += f"{line}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode(), 0o640)


def _write_scalers(path: Path, text: str, force: bool) -> None:
    if path.exists() and not force:
        from kici.config import yaml12

        try:
            known = yaml12.load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {"scalers": ["unreadable"]}
        if isinstance(known, dict) and known.get("scalers"):
            raise Failed(f"{path} has scalers already: edit it, or use --force")
    write_atomic(path, text.encode(), 0o644)


def _write_dropin(root: Path, name: str) -> None:
    source = root / _EXAMPLES.lstrip("/") / f"{name}.conf"
    directory = root / _UNIT_DIRECTORY
    if source.exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / f"{name}.conf", source.read_bytes(), 0o644)


def _check(root: Path) -> None:
    from kici.config.load import load_config
    from kici.errors import ConfigError

    environ = parse((root / _SETTINGS).read_text(encoding="utf-8"))
    environ["KICI_SCALER_CONFIG_PATH"] = str(root / "etc/kici/scalers.yaml")
    try:
        config = load_config(environ, touch=False)
    except ConfigError as error:
        raise Failed(f"the files are written, but:\n{error}") from None
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _start() -> bool:
    """Whether there is a service manager, which now runs the worker."""
    if not os.path.isdir("/run/systemd/system") or shutil.which("systemctl") is None:
        print("Configured. No systemd here: start it with `kici-worker run`.")
        return False
    for words in (["daemon-reload"], ["enable", "kici-worker"], ["restart", "kici-worker"]):
        done = subprocess.run(["systemctl", *words], check=False, timeout=_SYSTEMCTL_S)
        if done.returncode:
            raise Failed("the service did not start: see `systemctl status kici-worker`")
    print("The worker runs: `kici-worker status`.")
    return True


def _examine() -> None:
    """Doctor's findings, once the worker had time to join. They are advice: a coordinator that
    is not there yet is no failure of this machine's set-up."""
    from kici.cli import doctor
    from kici.cli.daemon import daemon_of

    parser = argparse.ArgumentParser()
    doctor.arguments(parser)
    args = parser.parse_args(["--env-file", f"/{_SETTINGS}"])
    deadline = time.monotonic() + _JOIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Failed):
            if daemon_of(args).ask("GET", "/status").get("coordinatorConnection") == "connected":
                break
        time.sleep(_POLL_S)
    doctor.run(args)
