"""The few endpoints of the Hugging Face Hub that huggingface_hub asks for models, served on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_local_test"


@dataclass
class Repository:
    """Commits, each a whole tree of files; refs name them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Put files on top of what ref names, and move it there."""
        tree = self.commits.get(self.refs.get(ref, ""), {}) | files
        digest = hashlib.sha1(repr((len(self.commits), sorted(tree))).encode()).hexdigest()
        self.commits[digest] = tree
        self.refs[ref] = digest
        return digest

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag or a commit."""
        return self.refs.get(revision, revision if revision in self.commits else None)


class HubServer(ThreadingHTTPServer):
    """Holds repositories, large files by their SHA-256, and the requests it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.agents: set[str] = set()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be unreachable from now on."""
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def elsewhere(self) -> str:
        """The same server, but another host to the client."""
        return f"http://localhost:{self.server_address[1]}"

    def add(self, name: str, files: dict[str, bytes], **properties: bool) -> Repository:
        """A new repository with these files on its main branch."""
        repository = self.repositories[name] = Repository(**properties)
        repository.commit(files)
        return repository


class Refused(Exception):
    """status: of HTTP; code: the Hub's own, in X-Error-Code."""

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        self.server.agents.add(self.headers.get("User-Agent", ""))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for method, pattern, handle in ROUTES:
                if (match := re.fullmatch(pattern, path)) and self.command in method.split():
                    handle(self, *match.groups())
                    return
            raise Refused(404, "", f"no such endpoint: {self.command} {path}")
        except Refused as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            self.send(error.status, json.dumps({"error": str(error), **error.more}).encode(), headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def may_write(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "", "Invalid username or password.")

    def find(self, name: str, revision: str = "main") -> tuple[Repository, str]:
        """The repository and its commit, as the Hub shows them to this visitor: a private one looks as if absent."""
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not known):
            raise Refused(404 if known else 401, "RepoNotFound" if known else "", "Repository not found")
        commit = repository.resolve(revision)
        if commit is None and repository.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit or ""

    def model_info(self, name: str, revision: str = "main") -> None:
        repository, commit = self.find(name, revision)
        files = [{"rfilename": file} for file in repository.commits.get(commit, {})]
        self.send_json({"id": name, "sha": commit, "private": repository.private, "tags": [], "siblings": files})

    def tree(self, name: str, revision: str) -> None:
        repository, commit = self.find(name, revision)
        rows = []
        for path, content in repository.commits[commit].items():
            row = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
            if is_large(path):
                row["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
            rows.append(row)
        self.send_json(rows)

    def resolve(self, name: str, revision: str, path: str) -> None:
        repository, commit = self.find(name, revision)
        if repository.gated:
            raise Refused(403, "GatedRepo", f"Access to model {name} is restricted")
        content = repository.commits[commit].get(path)
        if content is None:
            raise Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_hash(content)}"'}
        if is_large(path):  # as on the Hub, those lie with another host, which must not be told the token
            digest = sha256(content)
            self.server.large[digest] = content
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            self.send(302, b"", headers | {"Location": f"{self.server.elsewhere}/large/{digest}"})
        else:
            self.send(200, content, headers)

    def get_large(self, digest: str) -> None:
        if "Authorization" in self.headers:
            raise Refused(400, "", "a token was sent to the wrong host")
        self.send(200, self.server.large[digest], {"ETag": f'"{digest}"'})

    def put_large(self, digest: str) -> None:
        if sha256(self.body) != digest:
            raise Refused(400, "", "not what was announced")
        self.server.large[digest] = self.body
        self.send(200, b"", {})

    def create(self) -> None:
        self.may_write()
        wanted = json.loads(self.body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != "me":
            raise Refused(403, "", f"You don't have the rights to create a model under {wanted['organization']}")
        if name in self.server.repositories:
            raise Refused(409, "", "You already created this model repo", url=f"{self.server.url}/{name}")
        private = wanted.get("visibility") == "private" or wanted.get("private", False)
        self.server.repositories[name] = Repository(private=private)
        self.send_json({"url": f"{self.server.url}/{name}"})

    def validate_yaml(self) -> None:
        content = json.loads(self.body)["content"]
        try:
            _, head, _ = content.split("---\n", 2)
            entries = yaml.safe_load(head)
            results = [row for index in entries.get("model-index", []) for row in index["results"]]
            for row in results:
                assert row["task"]["type"]
                assert row["dataset"]["type"]
                assert row["dataset"]["name"]
                assert all({"type", "value"} <= metric.keys() for metric in row["metrics"])
        except (ValueError, KeyError, AssertionError, yaml.YAMLError) as error:
            body = json.dumps({"errors": [{"message": repr(error)}]}).encode()
            self.send(400, body, {"Content-Type": "application/json"})
        else:
            self.send_json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        self.may_write()
        self.find(name, revision)
        files = json.loads(self.body)["files"]
        self.send_json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if is_large(file["path"]) else "regular",
                        "shouldIgnore": False,
                    }
                    for file in files
                ]
            }
        )

    def batch(self, name: str) -> None:
        self.may_write()
        objects = [
            row | {"actions": {"upload": {"href": f"{self.server.url}/large/{row['oid']}"}}}
            for row in json.loads(self.body)["objects"]
        ]
        self.send_json({"transfer": "basic", "objects": objects})

    def commit(self, name: str, revision: str) -> None:
        self.may_write()
        repository, _ = self.find(name, revision)
        files = {}
        for line in self.body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        digest = repository.commit(files, revision)
        self.send_json({"commitUrl": f"{self.server.url}/{name}/commit/{digest}", "commitOid": digest})


NAME = r"([^/]+/[^/]+)"
ROUTES = (
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate_yaml),
    ("GET", f"/api/models/{NAME}", Handler.model_info),
    ("GET", f"/api/models/{NAME}/revision/(.+)", Handler.model_info),
    ("GET", f"/api/models/{NAME}/tree/(.+)", Handler.tree),
    ("POST", f"/api/models/{NAME}/preupload/(.+)", Handler.preupload),
    ("POST", f"/api/models/{NAME}/commit/(.+)", Handler.commit),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ("GET HEAD", f"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
    ("GET", "/large/([0-9a-f]{64})", Handler.get_large),
    ("PUT", "/large/([0-9a-f]{64})", Handler.put_large),
)


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
