"""As much of the Hugging Face Hub as publishing and loading need, in memory, on loopback."""

import base64
import hashlib
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

from loopback import serving


# Data sets are named `datasets/USER/NAME`.
REPO = r"((?:datasets/)?[^/]+/[^/]+)"
API = rf"/api/(?:models/)?{REPO}"


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: list[dict] = field(default_factory=list)
    settings: dict = field(default_factory=dict)

    def files(self, revision: str) -> dict[str, bytes] | None:
        """Files of a branch, or of the commit that a branch is at."""
        by_commit = {sha(files): files for files in self.branches.values()}
        return self.branches.get(revision, by_commit.get(revision))


class LoopbackHub(ThreadingHTTPServer):
    """`failing` is a pattern of requests, `METHOD PATH`, whose connection breaks."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.failing: str | None = None
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def handle_request(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlparse(self.path).path)
        request = f"{self.command} {path}"
        self.server.requests.append(request)
        if self.server.failing and re.search(self.server.failing, request):
            self.close_connection = True
            self.connection.close()
            return
        for pattern, answer in ROUTES.items():
            if match := re.fullmatch(pattern, request):
                return answer(self, *match.groups())
        self.missing("EntryNotFound")

    do_GET = do_POST = do_PUT = do_HEAD = handle_request

    def send(self, content: dict | list | bytes | None = None, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, code: str) -> None:
        self.send({"error": code}, 404, X_Error_Code=code)

    def log_message(self, *_) -> None:
        pass

    # What the client asks for, in the order of an upload and then of a download.

    def who_am_i(self) -> None:
        self.send({"type": "user", "name": "jane", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        if not self.headers.get("Authorization"):
            return self.send({"error": "Unauthorized"}, 401)
        asked = json.loads(self.body)
        kind = "datasets/" if asked.get("type") == "dataset" else ""
        repo_id = f"{kind}{asked.get('organization') or 'jane'}/{asked['name']}"
        is_new = repo_id not in self.server.repositories
        self.server.repositories.setdefault(repo_id, Repository(asked.get("visibility") == "private"))
        name = repo_id.removeprefix("datasets/")
        self.send({"url": f"{self.server.url}/{repo_id}", "name": name, "id": name}, 200 if is_new else 409)

    def create_branch(self, repo_id: str, branch: str) -> None:
        branches = self.server.repositories[repo_id].branches
        is_new = branch not in branches
        branches.setdefault(branch, dict(branches["main"]))
        self.send({}, 200 if is_new else 409)

    def settings(self, repo_id: str) -> None:
        self.server.repositories[repo_id].settings |= json.loads(self.body)
        self.send({})

    def validate_card(self) -> None:
        self.send({"errors": [], "warnings": []})

    def before_upload(self, repo_id: str, revision: str) -> None:
        files = json.loads(self.body)["files"]
        self.send(
            {
                "files": [
                    {"path": file["path"], "uploadMode": mode(file["path"]), "shouldIgnore": False, "oid": None}
                    for file in files
                ]
            }
        )

    def lfs_batch(self, repo_id: str) -> None:
        objects = [{"oid": each["oid"], "size": each["size"]} for each in json.loads(self.body)["objects"]]
        for each in objects:
            if each["oid"] not in self.server.blobs:
                each["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}
        self.send({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        self.server.blobs[oid] = self.body
        self.send(ETag='"x"')

    def commit(self, repo_id: str, revision: str) -> None:
        repository = self.server.repositories[repo_id]
        files = dict(repository.branches[revision])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append({"revision": revision, "summary": value["summary"]})
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        url = f"{self.server.url}/{repo_id}"
        answer = {"success": True, "commitUrl": f"{url}/commit/{sha(files)}", "commitOid": sha(files)}
        if "create_pr=1" in self.path:
            repository.branches["refs/pr/1"] = files
            return self.send({**answer, "pullRequestUrl": f"{url}/discussions/1"})
        repository.branches[revision] = files
        self.send(answer)

    def info(self, repo_id: str, revision: str | None = None) -> None:
        if (files := self._files(repo_id, revision or "main")) is not None:
            siblings = [{"rfilename": path} for path in sorted(files)]
            name = repo_id.removeprefix("datasets/")
            self.send({"id": name, "modelId": name, "sha": sha(files), "private": False, "siblings": siblings})

    def tree(self, repo_id: str, revision: str, folder: str) -> None:
        """The files and folders in a folder or, if asked for, below it."""
        if (files := self._files(repo_id, revision)) is None:
            return
        folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
        inside = {path: data for path, data in sorted(files.items()) if path.startswith(folder)}
        if folder and not inside:
            return self.missing("EntryNotFound")
        folders = {path[: path.index("/", len(folder))] for path in inside if "/" in path[len(folder) :]}
        if "recursive=true" not in self.path.lower():
            inside = {path: data for path, data in inside.items() if "/" not in path[len(folder) :]}
        found = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        self.send([*found, *({"type": "file", "path": path, **entry(path, data)} for path, data in inside.items())])

    def download(self, repo_id: str, revision: str, path: str) -> None:
        if (files := self._files(repo_id, revision)) is None:
            return
        if path not in files:
            return self.missing("EntryNotFound")
        known = entry(path, files[path])
        headers = {"ETag": f'"{known.get("lfs", known)["oid"]}"', "X_Repo_Commit": sha(files)}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(match[1]), min(int(match[2] or len(files[path])), len(files[path]) - 1)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(files[path])}"
            return self.send(files[path][first : last + 1], 206, **headers)
        self.send(files[path], **headers)

    def _files(self, repo_id: str, revision: str) -> dict[str, bytes] | None:
        repository = self.server.repositories.get(repo_id)
        files = repository.files(revision) if repository else None
        if files is None:
            self.missing("RevisionNotFound" if repository else "RepoNotFound")
        return files


ROUTES = {
    "GET /api/whoami-v2": Handler.who_am_i,
    "POST /api/repos/create": Handler.create,
    "POST /api/validate-yaml": Handler.validate_card,
    rf"PUT {API}/settings": Handler.settings,
    rf"POST {API}/branch/(.+)": Handler.create_branch,
    rf"POST {API}/preupload/(.+)": Handler.before_upload,
    rf"POST /{REPO}\.git/info/lfs/objects/batch": Handler.lfs_batch,
    "PUT /lfs/([0-9a-f]{64})": Handler.lfs_upload,
    rf"POST {API}/commit/(.+)": Handler.commit,
    rf"GET {API}": Handler.info,
    rf"GET {API}/revision/([^/]+)": Handler.info,
    rf"GET {API}/tree/([^/]+)(.*)": Handler.tree,
    rf"(?:GET|HEAD) /{REPO}/resolve/([^/]+)/(.+)": Handler.download,
    rf"(?:GET|HEAD) /api/resolve-cache/(?:models/)?{REPO}/([^/]+)/(.+)": Handler.download,
}


def mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".png", ".parquet")) else "regular"


def entry(path: str, data: bytes) -> dict:
    known: dict = {"size": len(data), "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    if mode(path) == "lfs":
        known["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return known


def sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(path.encode() + data for path, data in sorted(files.items()))).hexdigest()


def serve() -> AbstractContextManager[LoopbackHub]:
    return serving(LoopbackHub())
