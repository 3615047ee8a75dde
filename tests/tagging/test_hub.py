"""Downloads by the real huggingface_hub, from a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lora_lab.errors import Interrupted, OutputError
from lora_lab.tagging import hub
from lora_lab.tagging.known import FILES

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

REPOSITORY = "somebody/wd-tiny-tagger"
CONTENT = {"model.onnx": bytes(range(256)) * 4000, "selected_tags.csv": b"name,category\na,0\n", "README.md": b"x"}


class Hub(ThreadingHTTPServer):
    """Serves one repository, with ranges; may break off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.breaks_at: int | None = None
        self.stalls = threading.Event()
        self.stalling = False
        self.ranges: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Quiet."""

    def do_HEAD(self) -> None:  # noqa: N802
        self._file(body=False)

    def do_GET(self) -> None:  # noqa: N802
        if not self.path.startswith("/api/"):
            return self._file(body=True)
        if REPOSITORY not in self.path:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = [{"rfilename": name, "size": len(data)} for name, data in CONTENT.items()]
        info = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": "0" * 40, "siblings": files, "tags": []}
        return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, *, body: bool) -> None:
        name = self.path.split("?")[0].rpartition("/")[2]
        if REPOSITORY not in self.path or name not in CONTENT:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = CONTENT[name]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": "0" * 40, "Accept-Ranges": "bytes"}
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if found and body:
            self.server.ranges.append(f"{name} {found[1]}")
            start = int(found[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self._send(206, data[start:], headers)
        return self._send(200, data, headers, body=body, cut=name == "model.onnx")

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool = True, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if cut and self.server.breaks_at is not None:
            self.wfile.write(data[: self.server.breaks_at])
            self.wfile.flush()
            if self.server.stalling:
                self.server.stalls.wait(60)
            self.close_connection = True
        else:
            self.wfile.write(data)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    made = Hub()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.stalls.set()
    made.shutdown()


def test_the_size_first_then_both_files(server: Hub, tmp_path: Path) -> None:
    wanted = hub.look_up(REPOSITORY)
    assert wanted.size == sum(len(CONTENT[name]) for name in FILES)
    assert not (tmp_path / "taggers").exists()
    told: list[tuple[int, int]] = []
    folder = hub.download(wanted, tmp_path / "taggers", listen=lambda *done: told.append(done))
    assert folder == tmp_path / "taggers" / "wd-tiny-tagger"
    assert {name: (folder / name).read_bytes() for name in FILES} == {name: CONTENT[name] for name in FILES}
    assert told[-1] == (wanted.size, wanted.size)


def test_stopped_in_the_middle_it_goes_on_where_it_was(server: Hub, tmp_path: Path) -> None:
    wanted = hub.Download(REPOSITORY, FILES, sum(len(CONTENT[name]) for name in FILES))
    server.breaks_at, server.stalling = 600_000, True
    here: list[int] = []
    with pytest.raises(Interrupted, match="kept"):
        hub.download(
            wanted, tmp_path, listen=lambda done, total: here.append(done), stop=lambda: bool(here) and here[-1] > 0
        )
    server.stalls.set()
    server.breaks_at = None
    folder = hub.download(wanted, tmp_path)
    assert (folder / "model.onnx").read_bytes() == CONTENT["model.onnx"]
    # Another version of the package may begin anew; where it goes on, it asks for what is missing alone.
    assert all(int(asked.split()[1]) > 0 for asked in server.ranges if asked.startswith("model.onnx"))


def test_what_is_not_there_and_what_cannot_be_reached(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(hub.HubError, match="no nobody/nothing"):
        hub.look_up("nobody/nothing")
    with pytest.raises(hub.HubError, match=r"has no model_v2\.onnx"):
        hub.look_up(REPOSITORY, ("model_v2.onnx",))
    with pytest.raises(hub.HubError, match="no repository"):
        hub.look_up("just-a-name")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(hub.HubError, match="cannot be reached"):
        hub.look_up(REPOSITORY)


def test_a_place_without_room_or_rights_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = hub.Download(REPOSITORY, FILES, 10**15)
    with pytest.raises(OutputError, match="1,000,000,000 MB"):
        hub.download(wanted, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be kept here"):
        hub.download(wanted, tmp_path / "file")
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(hub.HubError, match="pip install huggingface_hub"):
        hub.look_up(REPOSITORY)
