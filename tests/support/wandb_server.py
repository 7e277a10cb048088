"""A stand-in for the W&B server on the loopback: it keeps what wandb 0.31's client sends and answers what it asks.

As at the site, a run's history is a list of lines that the client writes at offsets, and two artifacts of one name and
content are one version.
"""

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback_server import LoopbackServer

ENTITY, PROJECT_ID = "team", "p1"


@dataclass
class Run:
    """What the server knows of a run."""

    id: str
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Rows by line number."""
    exit_code: int | None = None
    used: list[str] = field(default_factory=list)
    """Artifacts that went into the run, as ``name:version``."""
    made: list[str] = field(default_factory=list)
    """Artifacts that came out of it."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history, in the order of its lines."""
        return [self.history[line] for line in sorted(self.history)]


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    name: str
    type: str
    version: int
    digest: str
    committed: bool = False

    @property
    def label(self) -> str:
        """``name:v0``."""
        return f"{self.name}:v{self.version}"


class WandbServer(LoopbackServer):
    """What W&B holds, and who asked it for what."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.lock = threading.RLock()
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.charts: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.unknown: list[str] = []
        self.refuse_views = False
        """Save no workspace, as for a user who may not."""

    def environment(self) -> dict[str, str]:
        """The variables that direct the client here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """Answers one GraphQL operation; None if it is unknown."""
        reply = getattr(self, f"_on_{re.sub(r'(?<!^)(?=[A-Z])', '_', operation).lower()}", None)
        return None if reply is None else reply(given)

    # Runs -----------------------------------------------------------------------------------------------------------

    def _project(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("project") or given.get("projectName") or "lnsub"
        entity = {"id": "e1", "name": ENTITY}
        return {"id": PROJECT_ID, "internalId": "1", "name": name, "entity": entity, "entityName": ENTITY}

    def _on_run_resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        bucket = run and {
            "id": run.id,
            "name": run.id,
            "displayName": run.id,
            "summaryMetrics": "{}",
            "config": json.dumps(run.config),
            "tags": [],
            "notes": None,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]),
            "eventsTail": "[]",
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**self._project(given), "bucket": bucket}}

    def _on_upsert_bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"]))
        run.config |= json.loads(given.get("config") or "{}")
        bucket = {
            "id": run.id,
            "name": run.id,
            "displayName": run.id,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": self._project(given),
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"inserted": inserted, "bucket": bucket}}

    def _on_create_run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": f, "uploadUrl": f"{self.url}/storage/{given['run']}/{f}"} for f in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def stream(self, run: Run, chunk: dict[str, Any]) -> None:
        """Takes lines of a run's history, each at its offset."""
        rows = (chunk.get("files") or {}).get("wandb-history.jsonl") or {}
        for line, text in enumerate(rows.get("content") or [], start=rows.get("offset", 0)):
            run.history[line] = json.loads(text)
        if chunk.get("complete"):
            run.exit_code = chunk.get("exitcode")

    # Artifacts ------------------------------------------------------------------------------------------------------

    def _on_create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = given["input"]
        name = wanted["artifactCollectionName"]
        versions = [a for a in self.artifacts.values() if a.name == name]
        found = next((a for a in versions if a.digest == wanted["digest"]), None)
        if found is None:
            number = str(len(self.artifacts) + 1)
            found = Artifact(number, name, wanted["artifactTypeName"], len(versions), wanted["digest"])
            self.artifacts[number] = found
        if wanted["runName"]:  # an artifact that is only used has no run that made it
            self.runs[wanted["runName"]].made.append(found.label)
        state = "COMMITTED" if found.committed else "PENDING"
        return {
            "createArtifact": {
                "artifact": {"id": found.id, "state": state, "artifactSequence": {"id": name, "latestArtifact": None}}
            }
        }

    def _on_artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        name = str(given["name"]).split(":")[0]
        kinds = [{"artifactType": {"name": a.type}} for a in self.artifacts.values() if a.name == name]
        return {"project": {"artifact": kinds[0] if kinds else None}}

    def _on_artifact_by_i_d(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self.artifacts[given["id"]]
        unset = ("description", "metadata", "historyStep", "commitHash", "updatedAt")
        return {
            "artifact": {
                **dict.fromkeys(unset),
                "__typename": "Artifact",
                "id": found.id,
                "artifactSequence": {
                    "__typename": "ArtifactSequence",
                    "name": found.name,
                    "project": self._project({}),
                },
                "versionIndex": found.version,
                "artifactType": {"name": found.type},
                "ttlDurationSeconds": -1,
                "ttlIsInherited": False,
                "tags": [],
                "state": "COMMITTED",
                "size": 0,
                "digest": found.digest,
                "fileCount": 1,
                "createdAt": "2026-01-01T00:00:00",
                "aliases": [],
            }
        }

    def _on_use_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = given["input"]
        self.runs[wanted["runName"]].used.append(self.artifacts[wanted["artifactID"]].label)
        return {"useArtifact": {"artifact": {"id": wanted["artifactID"]}}}

    def _on_create_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"createArtifactManifest": self._manifest(given["artifactID"])}

    def _on_update_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": self._manifest(given["artifactManifestID"])}

    def _manifest(self, number: str) -> dict[str, Any]:
        upload = {"id": f"f{number}", "uploadUrl": f"{self.url}/manifests/{number}", "uploadHeaders": []}
        return {"artifactManifest": {"id": number, "file": upload}}

    def _on_create_artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in given["input"]["artifactFiles"]:
            path = f"artifacts/{spec['artifactID']}/{spec['name']}"
            node = {"storagePath": path, "uploadUrl": f"{self.url}/{path}", "uploadHeaders": []}
            edges.append({"node": {**node, "uploadMultipartUrls": None, "artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_commit_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self.artifacts[given["artifactID"]]
        found.committed = True
        return {"commitArtifact": {"artifact": {"id": found.id, "digest": found.digest}}}

    # Projects and views ---------------------------------------------------------------------------------------------

    def _on_viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        user = {"id": "u1", "entity": ENTITY, "username": "u", "name": "u", "email": "u@localhost", "flags": "{}"}
        return {"viewer": {**user, "admin": False, "teams": teams, "apiKeys": {"edges": []}}}

    _on_get_viewer = _on_viewer

    def _on_server_features_query(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_organization_core_weave_organization_i_d(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _on_create_custom_chart(self, given: dict[str, Any]) -> dict[str, Any] | None:
        if given["chartName"] in self.charts:
            raise ValueError(f"chart {given['chartName']} already exists")
        self.charts[given["chartName"]] = given
        return {"createCustomChart": {"chart": {"id": f"{given['entity']}/{given['chartName']}"}}}

    def _on_upsert_view2(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.refuse_views:
            raise PermissionError("permission denied")
        number = given.get("id") or f"v{len(self.views) + 1}"
        self.views[number] = given
        times = {"createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00"}
        view = {k: given.get(k) for k in ("type", "name", "displayName", "description", "spec")}
        return {
            "upsertView": {"inserted": True, "view": {"id": number, **view, **times, "project": self._project(given)}}
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *_: object) -> None:
        """Says nothing on the screen."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: object, status: int = 200) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        body = self.server.files.get(self.path)
        self._reply({} if body is None else body, 404 if body is None else 200)

    def do_PUT(self) -> None:
        body = self._body()
        with self.server.lock:
            self.server.files[self.path] = body
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        with self.server.lock:
            if stream := re.fullmatch(r"/files/[^/]*/[^/]*/([^/]*)/file_stream", self.path):
                self.server.stream(self.server.runs[stream[1]], json.loads(body))
                return self._reply({"limits": {}})
            if self.path != "/graphql":
                return self._reply({}, 404)
            asked = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1]
            operation = operation[0].upper() + operation[1:]
            try:
                data = self.server.answer(operation, asked.get("variables") or {})
            except (PermissionError, ValueError) as error:
                return self._reply({"data": None, "errors": [{"message": str(error)}]})
            if data is None:
                self.server.unknown.append(operation)
                return self._reply({"data": None, "errors": [{"message": f"{operation} is not known here"}]})
        return self._reply({"data": data})
