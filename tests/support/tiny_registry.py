"""As much of a registry as tells right credentials from wrong ones: ``PORT USER PASSWORD``.

With the right ones an image is unknown (404), with others the answer is 401.
"""

import base64
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def main():
    port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    right = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers.get("Authorization") == right
            if not allowed:
                status, code = 401, "UNAUTHORIZED"
            elif self.path == "/v2/":
                status, code = 200, ""
            else:
                status, code = 404, "MANIFEST_UNKNOWN"
            body = b'{"errors":[{"code":"%s","message":"%s"}]}' % ((code.encode(),) * 2)
            self.send_response(status)
            if not allowed:
                self.send_header("WWW-Authenticate", 'Basic realm="tiny"')
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
