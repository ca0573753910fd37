"""A server that answers as GitHub's REST API is documented to, with one repository in memory."""

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from web_servers import Asked, Line, Reply, reply

TOKEN = "ghp_S3cretToken0123456789"  # noqa: S105 - of nobody.
DIFF = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two é\n"
_JSON = "application/json; charset=utf-8"
_USER = {"login": "ada", "id": 1, "type": "User", "site_admin": False}
_NOT_FOUND = (404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"})
Tree = dict[str, tuple[str, bytes]]


def digest(kind: str, value: Any) -> str:
    """A name that follows from the content, as git's do."""
    return hashlib.sha1(f"{kind} {json.dumps(value, sort_keys=True)}".encode(), usedforsecurity=False).hexdigest()


class FakeGitHub:
    """The repository acme/app. `reply` answers a request; what is done to it is in its members.

    `before_ref` is called once before the branch is changed, for what others do meanwhile.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.issues: dict[int, dict[str, Any]] = {}
        self.comments: list[dict[str, Any]] = []
        self.reviews: list[dict[str, Any]] = []
        self.releases: list[dict[str, Any]] = []
        self.pulls: dict[int, dict[str, Any]] = {}
        self.trees: dict[str, Tree] = {}
        self.blobs: dict[str, bytes] = {}
        self.commits: dict[str, dict[str, Any]] = {}
        self.refs: dict[str, str] = {}
        self.before_ref: Any = None
        self.protected = False
        root = self.tree({"README.md": ("100644", b"# app\n"), "src/a.txt": ("100644", b"one\n")})
        self.refs["heads/main"] = self.commit(root, [], "begin")

    def tree(self, files: Tree) -> str:
        """Keeps a tree."""
        sha = digest("tree", {path: [mode, content.hex()] for path, (mode, content) in files.items()})
        self.trees[sha] = files
        return sha

    def commit(self, tree: str, parents: list[str], message: str) -> str:
        """Keeps a commit."""
        sha = digest("commit", [tree, parents, message, len(self.commits)])
        listed = [{"sha": each, "url": "", "html_url": ""} for each in parents]
        self.commits[sha] = {"sha": sha, "tree": {"sha": tree}, "parents": listed, "message": message}
        return sha

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """What is on a branch."""
        tree = self.commits[self.refs[f"heads/{branch}"]]["tree"]["sha"]
        return {path: content for path, (_, content) in self.trees[tree].items()}

    def add_issue(self, title: str, **more: Any) -> dict[str, Any]:
        """An issue, as GitHub tells of it."""
        number = len(self.issues) + 1
        found = {
            "id": 1000 + number,
            "number": number,
            "title": title,
            "state": "open",
            "state_reason": None,
            "body": None,
            "user": _USER,
            "labels": [],
            "assignees": [],
            "comments": 0,
            "html_url": f"https://github.com/acme/app/issues/{number}",
            "created_at": "2026-03-01T10:00:00Z",
            "updated_at": "2026-03-01T10:05:00Z",
            "closed_at": None,
            **more,
        }
        self.issues[number] = found
        return found

    def add_pull(self, number: int, **more: Any) -> dict[str, Any]:
        """A pull request, as GitHub tells of it."""
        found = {
            "id": 2000 + number,
            "number": number,
            "title": f"Change {number}",
            "state": "open",
            "draft": False,
            "merged": False,
            "merged_at": None,
            "merge_commit_sha": "e5bd3914e2e596debea16f433f57875b5b90bcd6",
            "mergeable": None,
            "body": "please",
            "user": _USER,
            "labels": [{"id": 1, "name": "bug", "color": "f29513"}],
            "head": {"label": "acme:change", "ref": "change", "sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e"},
            "base": {"label": "acme:main", "ref": "main", "sha": self.refs["heads/main"]},
            "html_url": f"https://github.com/acme/app/pull/{number}",
            "created_at": "2026-03-01T10:00:00Z",
            "updated_at": "2026-03-01T10:05:00Z",
            **more,
        }
        self.pulls[number] = found
        return found

    @property
    def reply(self) -> Reply:
        """Answers a request."""

        def answer(line: Line, asked: Asked) -> None:
            status, body, headers = self._answered(asked)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            reply(status, {"content-type": _JSON, **headers}, content)(line, asked)

        return answer

    def _answered(self, asked: Asked) -> tuple[int, Any, dict[str, str]]:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}, {}
        if asked.headers.get("x-github-api-version") != "2022-11-28":
            return 400, {"message": "The API version is not given"}, {}
        parts = urlsplit(asked.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = unquote(parts.path).removeprefix(self.prefix)
        body = json.loads(asked.body) if asked.body else {}
        found = self._route(asked.method, path, query, body, asked)
        status, value, *more = found
        if isinstance(value, list) and "per_page" in query:
            return self._paged(value, asked, query)
        return status, value, more[0] if more else {}

    def _paged(self, value: list[Any], asked: Asked, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        size, page = int(query["per_page"]), int(query.get("page", "1"))
        start = (page - 1) * size
        headers: dict[str, str] = {}
        if start + size < len(value):
            rest = "&".join(f"{name}={each}" for name, each in query.items() if name != "page")
            base = f"http://{asked.headers['host']}{urlsplit(asked.path).path}?{rest}"
            headers["link"] = f'<{base}&page=1>; rel="first", <{base}&page={page + 1}>; rel="next"'
        return 200, value[start : start + size], headers

    def _route(self, method: str, path: str, query: dict[str, str], body: Any, asked: Asked) -> Any:
        app = self._repository("app")
        if (method, path) in (("GET", "/user/repos"), ("GET", "/orgs/acme/repos"), ("GET", "/users/ada/repos")):
            return 200, [app, self._repository("tools")]
        if (method, path) == ("GET", "/repos/acme/app"):
            return 200, app
        if (method, path) == ("GET", "/repos/acme/old"):
            return 301, {"message": "Moved Permanently"}, {"location": "/repos/acme/app"}
        if not path.startswith("/repos/acme/app/"):
            return _NOT_FOUND
        inside = path.removeprefix("/repos/acme/app")
        for area in (self._issues, self._pulls, self._contents, self._git):
            found = area(method, inside, query, body, asked)
            if found is not None:
                return found
        if (method, inside) == ("POST", "/releases"):
            if any(each["tag_name"] == body["tag_name"] for each in self.releases):
                errors = [{"resource": "Release", "code": "already_exists", "field": "tag_name"}]
                return 422, {"message": "Validation Failed", "errors": errors}
            url = f"https://github.com/acme/app/releases/tag/{body['tag_name']}"
            self.releases.append({"id": 1, "html_url": url, "name": None, **body})
            return 201, self.releases[-1]
        return _NOT_FOUND

    def _repository(self, name: str) -> dict[str, Any]:
        return {
            "id": 1296269,
            "name": name,
            "full_name": f"acme/{name}",
            "private": False,
            "owner": _USER,
            "html_url": f"https://github.com/acme/{name}",
            "description": None,
            "fork": False,
            "archived": False,
            "language": "Rust",
            "default_branch": "main",
            "pushed_at": "2026-03-01T10:00:00Z",
        }

    def _issues(self, method: str, inside: str, query: dict[str, str], body: Any, _asked: Asked) -> Any:
        if (method, inside) == ("GET", "/issues"):
            wanted = query.get("state", "open")
            labels = set(filter(None, query.get("labels", "").split(",")))
            kept = [each for each in self.issues.values() if wanted in ("all", each["state"])]
            kept = [each for each in kept if labels <= {label["name"] for label in each["labels"]}]
            return 200, kept[::-1]
        if (method, inside) == ("POST", "/issues"):
            named = [{"name": each} for each in body.pop("labels", [])]
            people = [{"login": each} for each in body.pop("assignees", [])]
            return 201, self.add_issue(body.pop("title"), labels=named, assignees=people, **body)
        match = re.fullmatch(r"/issues/(\d+)(/comments)?", inside)
        if match is None:
            return None
        if int(match[1]) not in self.issues:
            return _NOT_FOUND
        issue = self.issues[int(match[1])]
        if match[2] is None:
            if method == "PATCH":
                if body.get("state") == "closed":
                    issue["closed_at"] = "2026-03-02T10:00:00Z"
                issue.update(body)
            return 200, issue
        if method == "POST":
            said = {"id": len(self.comments) + 1, "user": _USER, "created_at": "2026-03-01T10:00:00Z", **body}
            self.comments.append({**said, "html_url": f"{issue['html_url']}#issuecomment-{said['id']}"})
            return 201, self.comments[-1]
        return 200, self.comments

    def _pulls(self, method: str, inside: str, query: dict[str, str], body: Any, asked: Asked) -> Any:
        if (method, inside) == ("GET", "/pulls"):
            wanted = query.get("base", "main")
            return 200, [each for each in self.pulls.values() if each["base"]["ref"] == wanted]
        if (method, inside) == ("POST", "/pulls"):
            if body["head"] == "none":
                errors = [{"resource": "PullRequest", "field": "head", "code": "invalid"}]
                return 422, {"message": "Validation Failed", "errors": errors}
            made = self.add_pull(len(self.pulls) + 1, title=body["title"], body=body["body"], draft=body["draft"])
            return 201, made
        match = re.fullmatch(r"/pulls/(\d+)(/merge|/reviews)?", inside)
        if match is None:
            return None
        pull = self.pulls.get(int(match[1]))
        if pull is None:
            return _NOT_FOUND
        if match[2] == "/reviews":
            self.reviews.append(body)
            return 200, {"id": 80, "state": "COMMENTED", "html_url": f"{pull['html_url']}#pullrequestreview-80"}
        if match[2] == "/merge":
            if pull["merged"]:
                return 405, {"message": "Pull Request is not mergeable"}
            if body.get("sha", pull["head"]["sha"]) != pull["head"]["sha"]:
                return 409, {"message": "Head branch was modified. Review and try the merge again."}
            pull |= {"merged": True, "merged_at": "2026-03-01T11:00:00Z", "state": "closed"}
            return 200, {"sha": pull["merge_commit_sha"], "merged": True, "message": "Pull Request successfully merged"}
        if asked.headers["accept"] == "application/vnd.github.diff":
            return 200, DIFF.encode(), {"content-type": "application/vnd.github.diff; charset=utf-8"}
        return 200, pull

    def _contents(self, method: str, inside: str, query: dict[str, str], _body: Any, asked: Asked) -> Any:
        if method != "GET" or not inside.startswith("/contents/"):
            return None
        wanted = inside.removeprefix("/contents/")
        files = self.files(query.get("ref", "main"))
        if wanted in files:
            content = files[wanted]
            if "raw" in asked.headers["accept"]:
                return 200, content, {"content-type": "application/vnd.github.raw+json; charset=utf-8"}
            is_small = len(content) <= 1_000_000
            coded = base64.encodebytes(content).decode() if is_small else ""
            name = wanted.rpartition("/")[2]
            found = {"type": "file", "encoding": "base64" if is_small else "none", "size": len(content), "name": name}
            return 200, {**found, "path": wanted, "content": coded, "sha": digest("blob", content.hex())}
        below = {path.removeprefix(f"{wanted}/" if wanted else "") for path in files if path.startswith(wanted)}
        if not below:
            return _NOT_FOUND
        listed = []
        for name in sorted({each.partition("/")[0] for each in below}):
            kind = "file" if name in below else "dir"
            whole = f"{wanted}/{name}" if wanted else name
            size = len(files.get(whole, b""))
            listed.append({"type": kind, "name": name, "path": whole, "size": size, "sha": digest(kind, whole)})
        return 200, listed

    def _git(self, method: str, inside: str, _query: dict[str, str], body: Any, _asked: Asked) -> Any:
        if method == "GET" and inside.startswith("/commits/"):
            ref = inside.removeprefix("/commits/")
            sha = self.refs.get(f"heads/{ref}", ref)
            return (200, {"sha": sha, "commit": self.commits[sha]}) if sha in self.commits else _NOT_FOUND
        if not inside.startswith("/git/"):
            return None
        what, _, name = inside.removeprefix("/git/").partition("/")
        if (method, what) == ("GET", "ref"):
            return (200, self._ref(name)) if name in self.refs else _NOT_FOUND
        if (method, what) == ("GET", "commits"):
            return (200, self.commits[name]) if name in self.commits else _NOT_FOUND
        if (method, what) == ("GET", "trees"):
            listed = [{"path": path, "type": "blob"} for path in self.trees[name]]
            return 200, {"sha": name, "tree": listed, "truncated": False}
        if (method, what) == ("POST", "blobs"):
            sha = digest("blob", body["content"])
            self.blobs[sha] = base64.b64decode(body["content"])
            return 201, {"sha": sha, "url": ""}
        if (method, what) == ("POST", "trees"):
            return self._new_tree(body)
        if (method, what) == ("POST", "commits"):
            return 201, self.commits[self.commit(body["tree"], body["parents"], body["message"])]
        return self._new_ref(method, name or body["ref"].removeprefix("refs/"), body)

    def _new_tree(self, body: Any) -> Any:
        files = dict(self.trees[body["base_tree"]])
        for entry in body["tree"]:
            if "content" in entry:
                files[entry["path"]] = (entry["mode"], entry["content"].encode())
            elif entry["sha"] is None:
                if files.pop(entry["path"], None) is None:
                    return 422, {"message": "GitRPC::BadObjectState"}
            else:
                files[entry["path"]] = (entry["mode"], self.blobs[entry["sha"]])
        return 201, {"sha": self.tree(files), "truncated": False}

    def _new_ref(self, method: str, name: str, body: Any) -> Any:
        if (meanwhile := self.before_ref) is not None:
            self.before_ref = None
            meanwhile()
        if self.protected:
            return 422, {"message": "Changes must be made through a pull request."}
        if method == "POST" and name in self.refs:
            return 422, {"message": "Reference already exists"}
        parents = [each["sha"] for each in self.commits[body["sha"]]["parents"]]
        if method == "PATCH" and self.refs[name] not in [*parents, body["sha"]]:
            return 422, {"message": "Update is not a fast forward"}
        self.refs[name] = body["sha"]
        return (201 if method == "POST" else 200), self._ref(name)

    def _ref(self, name: str) -> dict[str, Any]:
        return {"ref": f"refs/{name}", "object": {"type": "commit", "sha": self.refs[name]}}
