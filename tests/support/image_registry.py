"""A registry that has any image: ``PORT``. Repository and tag make its content, so that two
of them are two images; each is one empty layer and its configuration. Plain HTTP, no login."""

import gzip
import hashlib
import io
import json
import platform
import re
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Store:
    """Owns: the blobs and manifests made so far, by digest."""

    def __init__(self):
        self.blobs, self.manifests = {}, {}

    def manifest(self, name, reference):
        if reference in self.manifests:
            return self.manifests[reference]
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            data = f"{name}:{reference}".encode() * 1000
            entry = tarfile.TarInfo("made-for")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        plain = content.getvalue()
        layer = gzip.compress(plain, mtime=0)
        config = json.dumps(
            {
                "architecture": _ARCHITECTURES.get(platform.machine(), "amd64"),
                "os": "linux",
                "created": "2026-01-01T00:00:00Z",
                "config": {"Cmd": ["/nothing"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
                "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"}],
            }
        ).encode()
        self.blobs |= {digest(layer): layer, digest(config): config}
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, "size": len(config), "digest": digest(config)},
                "layers": [{"mediaType": _LAYER, "size": len(layer), "digest": digest(layer)}],
            }
        ).encode()
        self.manifests[digest(body)] = body
        return body


def main():
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, kind, body = 200, "application/json", b"{}"
            if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", self.path):
                kind, body = _MANIFEST, store.manifest(*found.groups())
            elif found := re.fullmatch(r"/v2/.+/blobs/([^/]+)", self.path):
                kind, body = "application/octet-stream", store.blobs.get(found[1])
            if body is None or not self.path.startswith("/v2/"):
                status, body = 404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}'
            self.send_response(status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", kind)
            self.send_header("Docker-Content-Digest", digest(body))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
