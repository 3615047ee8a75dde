"""The routes below `/lora-lab/v1`, for whatever FastAPI app: the webui's, or a test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute

from lora_lab.api.access import guard
from lora_lab.api.bodies import Nothing, Tagging, ToolUse, Training
from lora_lab.api.work import Worker
from lora_lab.errors import HostBusyError, LoraLabError, UserError
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import unexpected

PREFIX = "/lora-lab/v1"
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "what was asked cannot be done: error, file and what to do"},
    401: {"description": "not logged in"},
    409: {"description": "something else is under way, or the checkpoint is not there"},
}


class Told(APIRoute):
    """A route whose errors are one sentence, as everywhere."""

    context: UiContext

    def get_route_handler(self) -> Callable[..., Any]:
        """See fastapi's."""
        inner, context = super().get_route_handler(), self.context

        async def handle(request: Request) -> Response:
            try:
                answer: Response = await inner(request)
                return answer
            except LoraLabError as error:
                status = 409 if isinstance(error, HostBusyError) else 400 if isinstance(error, UserError) else 500
                return JSONResponse(error.to_json(), status)
            except Exception as error:
                if type(error).__module__.split(".")[0] in ("fastapi", "starlette"):
                    raise  # a wrong body, or no access: fastapi answers
                told = unexpected(error, context.host.paths().data_dir)
                return JSONResponse({"error": told, "file": None, "do": "please report it"}, 500)

        return handle


def router(context: UiContext, credentials: dict[str, str], app: Any) -> APIRouter:  # noqa: ANN401 - a FastAPI
    """All routes, each behind the guard.

    Args:
        context: of the tab.
        credentials: user -> password; see `access.guard`.
        app: that they will be added to.
    """
    route_class = type("ToldHere", (Told,), {"context": context})
    routes = APIRouter(
        prefix=PREFIX, tags=["LoRA Lab"], route_class=route_class, responses=ERRORS,
        dependencies=[Depends(guard(credentials, app))],
    )  # fmt: skip
    worker = Worker(context)
    _add_runs(routes, worker)
    _add_work(routes, worker)
    return routes


def _add_runs(routes: APIRouter, worker: Worker) -> None:
    @routes.post("/train", summary="Start a run, or queue it behind the one under way", status_code=201)
    def train(body: Training) -> dict[str, Any]:
        return worker.train(body.settings)

    @routes.get("/runs", summary="All runs of the data folder, also those of other programs")
    def runs() -> dict[str, Any]:
        return worker.runs()

    @routes.get("/runs/{run_id}", summary="A run of this program as it is now")
    def status(run_id: str) -> dict[str, Any]:
        return worker.status(run_id)

    @routes.get("/runs/{run_id}/events", summary="What a run tells, as server-sent events, to its end")
    async def events(run_id: str, request: Request) -> StreamingResponse:
        worker.run(run_id)  # told before the answer begins
        last = request.headers.get("last-event-id", "")
        since = int(last[:9]) if last.isdecimal() else 0
        return StreamingResponse(worker.follow(run_id, since), media_type="text/event-stream")

    @routes.post("/runs/{run_id}/stop", summary="Stop a run within a step, and keep what it has")
    def stop(run_id: str, body: Nothing) -> dict[str, Any]:
        return worker.ask(run_id, "stop")

    @routes.post("/runs/{run_id}/pause", summary="Pause a run after its turn")
    def pause(run_id: str, body: Nothing) -> dict[str, Any]:
        return worker.ask(run_id, "pause")

    @routes.post("/runs/{run_id}/resume", summary="Go on with a run that pauses, or that was broken off")
    def resume(run_id: str, body: Nothing) -> dict[str, Any]:
        return worker.ask(run_id, "resume")


def _add_work(routes: APIRouter, worker: Worker) -> None:
    @routes.post("/scan", summary="Check a dataset: counts, problems, buckets, steps")
    def scan(body: Training) -> dict[str, Any]:
        return worker.scan(body.settings)

    @routes.get("/taggers", summary="The taggers that are here")
    def taggers() -> dict[str, Any]:
        return worker.taggers()

    @routes.post("/tag", summary="Tag a folder in the background, and write captions", status_code=202)
    def tag(body: Tagging) -> dict[str, Any]:
        return worker.tag(body)

    @routes.get("/tools", summary="The tools on files, and what each asks")
    def tools() -> dict[str, Any]:
        return worker.tools()

    @routes.post("/tools/{name}", summary="Begin a tool's work in the background", status_code=202)
    def use(name: str, body: ToolUse) -> dict[str, Any]:
        return worker.use(name, body)

    @routes.get("/tasks/{task_id}", summary="How far work in the background is, and what came of it")
    def task(task_id: str) -> dict[str, Any]:
        return worker.task(task_id)

    @routes.post("/tasks/{task_id}/stop", summary="Ask it to stop")
    def stop_task(task_id: str, body: Nothing) -> dict[str, Any]:
        return worker.stop_task(task_id)
