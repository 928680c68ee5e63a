"""One connection to Loki's push API (HTTP or HTTPS), kept open between pushes."""

import base64
import http.client
import ssl
from urllib.parse import urlsplit

from kici.config.model import Settings

PUSH_PATH = "/loki/api/v1/push"
TIMEOUT_S = 10.0
#: Of an answer that refuses, for people.
_MAX_REASON_BYTES = 300


class Push:
    """Owns: the connection. ``send`` raises ``OSError`` or ``HTTPException`` when there is none,
    ``ValueError`` for what HTTP cannot say (a host or a header outside Latin-1)."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.loki_url or "")
        path = parts.path.rstrip("/")
        self._path = path if path.endswith(PUSH_PATH) else path + PUSH_PATH
        self._headers = _headers(settings)
        self._host, self._port = parts.hostname or "", parts.port
        self._is_secure = parts.scheme == "https"
        self._ca_file = settings.loki_ca_file
        self._context: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes) -> tuple[int, str]:
        """``(HTTP status, reason for people)`` of one gzipped push."""
        if self._connection is None:
            self._connection = self._dial()
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read(_MAX_REASON_BYTES).decode("utf-8", "replace").strip()
            if answer.will_close or answer.read(1):
                self.close()
        except BaseException:
            self.close()
            raise
        return answer.status, f"{answer.status} {text or answer.reason}"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _dial(self) -> http.client.HTTPConnection:
        if not self._is_secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        if self._context is None:
            self._context = _trusting(self._ca_file)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=TIMEOUT_S, context=self._context
        )


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    """Made at the first push: a file that is gone by then must not take the port along."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise OSError(f"KICI_LOKI_CA_FILE: {ca_file}: {error.strerror or error}") from None


def _headers(settings: Settings) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    if settings.loki_tenant:
        headers["X-Scope-OrgID"] = settings.loki_tenant
    if settings.loki_token:
        headers["Authorization"] = f"Bearer {settings.loki_token.reveal()}"
    elif settings.loki_user and settings.loki_password:
        pair = f"{settings.loki_user}:{settings.loki_password.reveal()}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers
