"""A Git repository behind HTTP on loopback, served by `git http-backend`, and a clone to commit from."""

from __future__ import annotations

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_AUTHOR = ("Levada's tests", "tests@levada.dev")


class GitServer:
    """Serves an empty repository until the block ends: `url` to clone it from, `clone` to change it in."""

    def __init__(self, folder: Path) -> None:
        self._bare = folder / "served" / "repository.git"
        self.clone = folder / "clone"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{who}_NAME": _AUTHOR[0] for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": _AUTHOR[1] for who in ("AUTHOR", "COMMITTER")},
        }
        self._bare.mkdir(parents=True)
        self.clone.mkdir()
        self._run(self._bare, "init", "--quiet", "--bare", "--initial-branch=main")
        self._run(self.clone, "init", "--quiet", "--initial-branch=main")
        self._run(self.clone, "remote", "add", "origin", str(self._bare))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="git-server")
        self.url = f"http://127.0.0.1:{self._server.server_port}/{self._bare.name}"

    def __enter__(self) -> GitServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def commit(self, message: str) -> str:
        """Commit and push what is in the clone; the commit's id."""
        self._run(self.clone, "add", "--all")
        self._run(self.clone, "commit", "--quiet", f"--message={message}")
        return self._push()

    def revert(self) -> str:
        """Take back the last commit by another one; its id."""
        self._run(self.clone, "revert", "--no-edit", "HEAD")
        return self._push()

    def _push(self) -> str:
        self._run(self.clone, "push", "--quiet", "origin", "main")
        return self._run(self.clone, "rev-parse", "HEAD").strip()

    def _run(self, folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=self._environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        environment = self._environment | {"GIT_PROJECT_ROOT": str(self._bare.parent), "GIT_HTTP_EXPORT_ALL": "1"}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes) -> None:
                address = urlsplit(self.path)
                given = {
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": address.path,
                    "QUERY_STRING": address.query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_ADDR": self.client_address[0],
                }
                done = subprocess.run(
                    ["git", "http-backend"], env=environment | given, input=body, capture_output=True, timeout=60
                )
                head, _, content = done.stdout.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *_: object) -> None:
                """Nothing: what a client asked for is not of interest."""

        return Handler
