"""A stand-in for the Hugging Face Hub on the loopback: model repositories, as huggingface_hub's client uses them.

It keeps each repository's branches as lists of commits, each a whole tree of files; takes uploads by the LFS protocol
(the client's own storage protocol is switched off by a variable); and answers as the site does where a token is
missing, a name is unknown or a commit is not on top of the newest.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.loopback_server import LoopbackServer

TOKEN, READ_ONLY = "hf_writes", "hf_reads"
ORGANISATION = "my-lab"


@dataclass
class Repository:
    """A model repository."""

    private: bool
    branches: dict[str, list[dict[str, bytes]]] = field(default_factory=lambda: {"main": [{}]})
    """Trees of files by path, oldest first; a branch starts with a copy of main's newest."""

    def commit_id(self, branch: str, place: int = -1) -> str:
        """The SHA-1 that a tree of a branch goes by."""
        trees = self.branches[branch]
        place %= len(trees)
        names = [(path, hashlib.sha256(content).hexdigest()) for path, content in sorted(trees[place].items())]
        return hashlib.sha1(json.dumps([place, names]).encode()).hexdigest()

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and the tree of a branch or a commit."""
        for branch, trees in self.branches.items():
            for place in range(len(trees) - 1, -1, -1):
                if revision in (branch, self.commit_id(branch, place)):
                    return self.commit_id(branch, place), trees[place]
        return None


class HubServer(LoopbackServer):
    """What the Hub holds, and who asked it for what."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.unknown: list[str] = []
        self.requests: list[str] = []
        self.push_beside: str | None = None
        """A repository that someone else pushes to just before the next commit."""

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        """The newest files of a repository by path."""
        return self.repositories[repository].branches[branch][-1]

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The variables that direct the client here, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": token or "",
        }


class _RefusalError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, code: str = "", place: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.place = status, code, place


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        try:
            for method, pattern, handle in _ROUTES:
                if method == self.command and (parts := re.fullmatch(pattern, path)):
                    handle(self, body, *map(unquote, parts.groups()))
                    return
            self.server.unknown.append(f"{self.command} {path}")
            raise _RefusalError(404, "no such endpoint")
        except _RefusalError as refusal:
            content = {"error": str(refusal), "url": f"{self.server.url}{refusal.place}"}
            self._send(refusal.status, json.dumps(content).encode(), {"X-Error-Code": refusal.code})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json"}.items():
            if name not in (headers or {}):
                self.send_header(name, value)
        for name, value in (headers or {}).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode())

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _writer(self, repository: str) -> None:
        """Refuses whoever may not write to a repository."""
        if self._token() == READ_ONLY or (self._token() == TOKEN and not repository.startswith(f"{ORGANISATION}/")):
            raise _RefusalError(403, f'You don\'t have the rights to create a model under the namespace "{repository}"')
        if self._token() != TOKEN:
            raise _RefusalError(401, "Invalid username or password.")

    def _repository(self, name: str) -> Repository:
        found = self.server.repositories.get(name)
        if found is None or (found.private and self._token() not in (TOKEN, READ_ONLY)):
            raise _RefusalError(404 if self._token() else 401, "Repository not found", "RepoNotFound")
        return found

    def _tree(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self._repository(name).at(revision)
        if found is None:
            raise _RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def create(self, body: bytes) -> None:
        given = json.loads(body)
        name = f"{given['organization']}/{given['name']}"
        self._writer(name)
        if name in self.server.repositories:
            raise _RefusalError(409, "You already created this model repo", place=f"/{name}")
        # Clients of huggingface_hub 2 say "visibility", earlier ones "private".
        private = given.get("visibility") == "private" or bool(given.get("private"))
        self.server.repositories[name] = Repository(private)
        self._json({"url": f"{self.server.url}/{name}"})

    def info(self, _: bytes, name: str, revision: str | None = None) -> None:
        commit, tree = self._tree(name, revision or "main")
        private = self._repository(name).private
        siblings = [{"rfilename": path} for path in sorted(tree)]
        self._json({"id": name, "modelId": name, "private": private, "sha": commit, "siblings": siblings})

    def tree(self, _: bytes, name: str, revision: str) -> None:
        _, tree = self._tree(name, revision)
        self._json([{"type": "file", "path": path, **_facts(path, tree[path])} for path in sorted(tree)])

    def branch(self, _: bytes, name: str, branch: str) -> None:
        self._writer(name)
        branches = self._repository(name).branches
        if branch in branches:
            raise _RefusalError(409, "Reference already exists")
        branches[branch] = [branches["main"][-1]]
        self._json({})

    def validate(self, body: bytes) -> None:
        text = json.loads(body)["content"]
        good = "license: no-such-licence" not in text
        errors = [] if good else [{"message": '"license" must be one of [apache-2.0, mit]'}]
        self._send(200 if good else 400, json.dumps({"errors": errors, "warnings": []}).encode())

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        self._writer(name)
        _, tree = self._tree(name, revision)
        files = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(".safetensors") else "regular"
            oid = _facts(path, tree[path]).get("lfs", _facts(path, tree[path]))["oid"] if path in tree else None
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": files})

    def batch(self, body: bytes, name: str) -> None:
        self._writer(name)
        objects = []
        for given in json.loads(body)["objects"]:
            upload = {"actions": {"upload": {"href": f"{self.server.url}/objects/{given['oid']}"}}}
            objects.append(given | ({} if given["oid"] in self.server.objects else upload))
        self._json({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _RefusalError(400, "the content is not that of its checksum")
        self.server.objects[oid] = body
        self._send(200, b"")

    def commit(self, body: bytes, name: str, branch: str) -> None:
        self._writer(name)
        repository = self._repository(name)
        if self.server.push_beside == name:
            repository.branches[branch].append(repository.branches[branch][-1] | {"beside.txt": b"by someone else"})
            self.server.push_beside = None
        tree = dict(repository.branches[branch][-1])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit") not in (None, repository.commit_id(branch)):
                    raise _RefusalError(412, "A commit has happened since. Please refresh and try again.")
            elif line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile", line["key"]
                tree[value["path"]] = self.server.objects[value["oid"]]
        repository.branches[branch].append(tree)
        commit = repository.commit_id(branch)
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit})

    def resolve(self, _: bytes, name: str, revision: str, path: str) -> None:
        commit, tree = self._tree(name, revision)
        if path not in tree:
            raise _RefusalError(404, "Entry not found", "EntryNotFound")
        facts, content = _facts(path, tree[path]), tree[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{facts.get("lfs", facts)["oid"]}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            self._send(200, content, headers)
            return
        start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(206, content[start : end + 1], headers)


def _facts(path: str, content: bytes) -> dict[str, Any]:
    """What the Hub says of a file: its size, git's name for it, and where it is stored as LFS that one's too."""
    oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    facts: dict[str, Any] = {"size": len(content), "oid": oid}
    if path.endswith(".safetensors"):
        sha = hashlib.sha256(content).hexdigest()
        facts["lfs"] = {"oid": sha, "sha256": sha, "size": len(content), "pointerSize": 130}
    return facts


_NAME = "([^/]+/[^/]+)"
_ROUTES = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", f"/api/models/{_NAME}", _Handler.info),
    ("GET", f"/api/models/{_NAME}/revision/(.+)", _Handler.info),
    ("GET", f"/api/models/{_NAME}/tree/(.+)", _Handler.tree),
    ("POST", f"/api/models/{_NAME}/branch/(.+)", _Handler.branch),
    ("POST", f"/api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    ("POST", f"/api/models/{_NAME}/commit/(.+)", _Handler.commit),
    ("POST", f"/{_NAME}.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/objects/([0-9a-f]{64})", _Handler.store),
    ("GET", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
