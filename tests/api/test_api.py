"""The API: what it does, whom it lets in, and what it refuses."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("gradio", reason="gradio is not installed")

import httpx  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lora_lab.api.routes import router  # noqa: E402
from lora_lab.host.base import HostPaths  # noqa: E402
from lora_lab.training.jobs import JobQueue  # noqa: E402
from lora_lab.ui.context import UiContext  # noqa: E402
from tests.training.running import fresh_host  # noqa: E402
from tests.training.tiny import TinyHost, run_settings  # noqa: E402

BASE = "/lora-lab/v1"


class App(FastAPI):
    """With what gradio's app has for people who must log in."""

    auth: Any = None
    tokens: dict[str, str] = {}


class Served:
    """Clients of servers in threads, all closed at the end: starlette's own client fits no newer httpx."""

    def __init__(self) -> None:
        self._open: list[tuple[httpx.Client, uvicorn.Server, threading.Thread]] = []

    def __call__(self, host: TinyHost, credentials: dict[str, str] | None = None, **more: Any) -> httpx.Client:
        app = App()
        for name, value in more.items():
            setattr(app, name, value)
        queue = JobQueue()
        app.include_router(router(UiContext(host, queue=lambda: queue), credentials or {}, app))
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        self._open.append((client, server, thread))
        return client

    def close(self) -> None:
        for client, server, thread in self._open:
            client.close()
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def client_of() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


@pytest.fixture
def client(host: TinyHost, client_of: Served) -> httpx.Client:
    return client_of(host)


def wait(client: httpx.Client, path: str, until: Any) -> dict[str, Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found: dict[str, Any] = client.get(BASE + path).json()
        if until(found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_scan_train_follow(client: httpx.Client, host: TinyHost) -> None:
    asked = {"settings": run_settings(host.folder)}
    scanned = client.post(f"{BASE}/scan", json=asked).json()
    assert scanned["images"] == 4
    begun = client.post(f"{BASE}/train", json=asked)
    assert begun.status_code == 201
    run_id = begun.json()["id"]
    with client.stream("GET", f"{BASE}/runs/{run_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = list(answer.iter_lines())
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["step"] for event in told if event["event"] == "StepDone"] == [1, 2, 3, 4]
    assert told[-1]["event"] == "RunEnded"
    done = client.get(f"{BASE}/runs/{run_id}").json()
    assert (done["state"], done["active"], done["step"]) == ("finished", False, 4)
    assert Path(done["ended"]["lora"]).is_file()
    again = client.get(f"{BASE}/runs/{run_id}/events", headers={"Last-Event-ID": str(len(told) - 1)}).text
    assert again.count("data: ") == 1
    listed = client.get(f"{BASE}/runs").json()["runs"]
    assert [one["id"] for one in listed] == [run_id]


def test_pause_resume_stop(client: httpx.Client, host: TinyHost) -> None:
    asked = {"settings": run_settings(host.folder, max_train_epochs=400)}
    run = "/runs/" + client.post(f"{BASE}/train", json=asked).json()["id"]
    wait(client, run, lambda found: found["step"] >= 1)
    client.post(f"{BASE}{run}/pause", json={})
    wait(client, run, lambda found: found["state"] == "paused")
    step = client.post(f"{BASE}{run}/resume", json={}).json()["step"]
    wait(client, run, lambda found: found["step"] > step)
    client.post(f"{BASE}{run}/stop", json={})
    wait(client, run, lambda found: found["state"] == "stopped")
    assert client.post(f"{BASE}{run}/pause", json={}).status_code == 409
    # It was stopped and has its state: it can go on, in this or another process.
    assert client.post(f"{BASE}{run}/resume", json={}).json()["active"]
    client.post(f"{BASE}{run}/stop", json={})
    wait(client, run, lambda found: not found["active"])


def test_tag_with_the_demo_tagger(client: httpx.Client, host: TinyHost) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    name = client.get(f"{BASE}/taggers").json()["taggers"][0]
    asked = {"folder": str(host.folder / "train" / "1_mika"), "taggers": [name], "write": "append"}
    begun = client.post(f"{BASE}/tag", json=asked)
    assert begun.status_code == 202, begun.text
    done = wait(client, f"/tasks/{begun.json()['id']}", lambda found: found["state"] != "running")
    assert (done["state"], done["result"]["images"]) == ("done", 4)


def test_tools_are_listed_and_refuse_in_one_sentence(client: httpx.Client) -> None:
    tools = {tool["name"]: tool for tool in client.get(f"{BASE}/tools").json()["tools"]}
    assert "resize" in tools
    answer = client.post(f"{BASE}/tools/resize", json={"values": {"nonsense": "1"}})
    assert answer.status_code == 400
    assert answer.json()["error"] == "resize asks for no 'nonsense'"
    assert client.post(f"{BASE}/tools/explode", json={}).json()["error"] == "there is no tool 'explode'"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/train", {"settings": {"nonsense": 1}}, 400),
        ("/train", {"settings": {"train_data_dir": "nowhere", "output_name": "x"}}, 400),
        ("/train", {}, 422),
        ("/train", {"settings": {}, "more": 1}, 422),
        ("/scan", {"settings": {"train_data_dir": "\0"}}, 400),
        ("/tag", {"folder": "nowhere"}, 400),
        ("/tag", {"folder": "x" * 5000}, 422),
        ("/runs/none/stop", {}, 400),
        ("/tasks/task99/stop", {}, 400),
    ],
)
def test_what_is_wrong_is_one_sentence(client: httpx.Client, path: str, body: Any, status: int) -> None:
    answer = client.post(BASE + path, json=body)
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text
    if status == 400:
        assert answer.json()["error"]


def test_nobody_without_the_webuis_password(host: TinyHost, client_of: Served) -> None:
    client = client_of(host, {"mika": "päss:word", "other": "x"})
    for code in ("?", "mika:", "mika:wrong", "nobody:x", ":", "other:päss:word"):
        word = base64.b64encode(code.encode()).decode()
        assert client.get(f"{BASE}/runs", headers={"Authorization": f"Basic {word}"}).status_code == 401, code
    for header in ("Basic", "Basic !!!", "Bearer x", "basic " + "A" * 10_000):
        assert client.get(f"{BASE}/runs", headers={"Authorization": header}).status_code == 401
    assert client.get(f"{BASE}/runs").headers["www-authenticate"] == "Basic"
    word = base64.b64encode("mika:päss:word".encode()).decode()
    assert client.get(f"{BASE}/runs", headers={"Authorization": f"Basic {word}"}).status_code == 200


def test_nobody_who_has_not_logged_in_to_the_page(host: TinyHost, client_of: Served) -> None:
    client = client_of(host, auth={"mika": "x"}, tokens={"secret": "mika"})
    assert client.get(f"{BASE}/runs").status_code == 401
    assert client.get(f"{BASE}/runs", cookies={"access-token": "guess"}).status_code == 401
    assert client.get(f"{BASE}/runs", cookies={"access-token-unsecure": "secret"}).status_code == 200


def test_every_route_is_guarded(host: TinyHost, client_of: Served) -> None:
    client = client_of(host, {"mika": "x"})
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            assert client.request(method, path.replace("{", "").replace("}", ""), json={}).status_code == 401, path


def test_another_sites_page_can_send_nothing(client: httpx.Client) -> None:
    """A form or a simple fetch of another site reaches a local server, but cannot send JSON."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = client.post(f"{BASE}/runs/x/stop", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415, kind


def test_bodies_have_an_end(client: httpx.Client) -> None:
    huge = {"settings": {"output_name": "x" * 2_000_000}}
    assert client.post(f"{BASE}/scan", json=huge).status_code == 413
    endless = client.post(f"{BASE}/scan", content=iter([b"{}"]), headers={"Content-Type": "application/json"})
    assert endless.status_code == 411
    deep = b'{"settings": ' + b"[" * 100_000
    answer = client.post(f"{BASE}/scan", content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "Traceback" not in answer.text


def test_folders_outside_of_those_allowed(
    host: TinyHost, client_of: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "allowed"
    root.mkdir()
    (root / "link").symlink_to(host.folder / "train", target_is_directory=True)
    paths = HostPaths(lora_dir=root / "loras", data_dir=root / "data", allowed_roots=(root,))
    monkeypatch.setattr(host, "paths", lambda: paths)
    client = client_of(host)
    outside = (str(host.folder / "train"), str(root / ".." / "train"), str(root / "link"), "~", "/etc", "train")
    for folder in outside:
        for path in ("/scan", "/train"):
            asked = {"settings": {**run_settings(host.folder), "train_data_dir": folder}}
            answer = client.post(BASE + path, json=asked)
            assert answer.status_code == 400, folder
            assert answer.json()["error"] == "this folder is outside of those allowed", folder
        assert client.post(f"{BASE}/tag", json={"folder": folder}).status_code == 400
    asked = {"values": {"lora": str(host.folder / "x.safetensors"), "rank": "2"}, "out": str(host.folder / "y")}
    assert client.post(f"{BASE}/tools/resize", json=asked).status_code == 400


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
KNOWN = ["settings", "folder", "values", "out", "write", "taggers", "train_data_dir"]
NAMES = st.sampled_from(KNOWN) | st.text(max_size=5)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, client_of: Served) -> httpx.Client:
    return client_of(fresh_host(tmp_path_factory.mktemp("api")))


@settings(max_examples=40, deadline=None)
@given(
    path=st.sampled_from(["/train", "/scan", "/tag", "/tools/resize", "/runs/x/stop", "/tasks/x/stop"]),
    body=st.dictionaries(NAMES, JSON, max_size=3) | JSON,
)
def test_any_body_is_answered_in_a_sentence(shared: httpx.Client, path: str, body: Any) -> None:
    answer = shared.post(BASE + path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 409, 422), (answer.status_code, answer.text)
    assert "Traceback" not in answer.text
