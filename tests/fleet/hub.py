"""A small HTTP server in the shape of the Hugging Face hub: one model repository, on loopback."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """``files`` by path; ``token`` is the only one that may read; ``seen`` are the requests."""

    def __init__(self, repo, files, token):
        self.repo, self.files, self.token = repo, files, token
        self.seen, self.unknown = [], []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self, body=True)

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                hub.answer(self, body=True, posted=self.rfile.read(length))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def entry(self, path):
        data = self.files[path]
        oid = hashlib.sha1(data).hexdigest()
        return {"type": "file", "path": path, "size": len(data), "oid": oid}

    def listing(self, below, recursive):
        found, folders = [], set()
        for path in sorted(self.files):
            if below and not path.startswith(below + "/"):
                continue
            rest = path[len(below) + 1 :] if below else path
            if "/" in rest:
                folders.add((below + "/" if below else "") + rest.split("/")[0])
                if not recursive:
                    continue
            found.append(self.entry(path))
        return found + [
            {"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in sorted(folders)
        ]

    def answer(self, request, *, body, posted=b""):
        parts = urlsplit(request.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        self.seen.append(path)
        api = f"/api/models/{self.repo}"
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.reply(request, 401, b'{"error":"Invalid credentials"}', body=body)
        if path == api or path.startswith(f"{api}/revision/"):
            info = {"id": self.repo, "sha": COMMIT, "private": False, "siblings": [], "tags": []}
            return self.reply(request, 200, json.dumps(info).encode(), body=body)
        tree = re.fullmatch(re.escape(api) + r"/tree/[^/]+(?:/(.*))?", path)
        if tree:
            below = (tree[1] or "").rstrip("/")
            known = not below or any(p.startswith(below + "/") for p in self.files)
            if not known:
                return self.reply(request, 404, b'{"error":"Entry not found"}', body=body)
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            listed = json.dumps(self.listing(below, recursive)).encode()
            return self.reply(request, 200, listed, body=body)
        if path.startswith(f"{api}/paths-info/"):
            wanted = (
                json.loads(posted).get("paths", [])
                if posted[:1] == b"{"
                else parse_qs(posted.decode()).get("paths", [])
            )
            found = [self.entry(p) for p in wanted if p in self.files]
            found += [
                {"type": "directory", "path": p, "oid": "0" * 40, "size": 0}
                for p in wanted
                if any(f.startswith(p + "/") for f in self.files)
            ]
            return self.reply(request, 200, json.dumps(found).encode(), body=body)
        resolve = re.fullmatch(rf"/{re.escape(self.repo)}/resolve/[^/]+/(.+)", path)
        if resolve and resolve[1] in self.files:
            return self.file(request, self.files[resolve[1]], body)
        self.unknown.append(path)
        return self.reply(request, 404, b'{"error":"not found"}', body=body)

    def file(self, request, data, body):
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
            piece = data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(piece) - 1}/{len(data)}"
            return self.reply(request, 206, piece, headers, body=body)
        return self.reply(request, 200, data, headers, body=body)

    @staticmethod
    def reply(request, status, data, headers=None, *, body):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        if status in (401, 404):
            request.send_header("X-Error-Code", "EntryNotFound" if status == 404 else "GatedRepo")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if body:
            request.wfile.write(data)
