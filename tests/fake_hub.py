"""A model hub on this machine: what `hf download` asks of the Hugging Face Hub, answered from a folder."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0" * 40


@contextmanager
def fake_hub(repositories: Mapping[str, Path]) -> Iterator[str]:
    """Serves each folder under the name of its repository; yields the address, for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            content = content_of(self.path.split("?")[0], repositories)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def content_of(path: str, repositories: Mapping[str, Path]) -> bytes | None:
    """What the hub answers to a path: a repository's commit, its list of files, or one of them; None: 404."""
    for name, folder in repositories.items():
        sizes = {
            file.relative_to(folder).as_posix(): file.stat().st_size
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        if path == f"/api/models/{name}/revision/main":
            return json.dumps({"id": name, "sha": COMMIT}).encode()
        if path == f"/api/models/{name}/tree/{COMMIT}":
            return json.dumps(
                [{"type": "file", "path": file, "size": size, "oid": COMMIT} for file, size in sizes.items()]
            ).encode()
        file = path.removeprefix(f"/{name}/resolve/{COMMIT}/")
        if file in sizes:
            return (folder / file).read_bytes()
    return None
