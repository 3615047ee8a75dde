"""A sweep over several machines with Ray: each run is a task of the cluster, its LoRA and pictures come back.

Every machine needs this package, and the pictures and the checkpoint under the same paths. Ray is asked for by
``lora-lab sweep --ray`` alone; it is never part of the webui.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import LoraLabError, UserError
from lora_lab.workflow.sweep import Look, Outcome, Sweep, Told, keep_pictures, look_at, train, write
from lora_lab.workflow.sweep_plan import Combination

if TYPE_CHECKING:
    from PIL import Image

    from lora_lab.host.base import Host

MakeHost = Callable[[Path], "Host"]
"""A folder for runs and LoRAs to a host with the checkpoint; can be pickled."""
LOCAL = "local"
"""The address of a cluster of this machine alone, that is started and ended with the sweep."""


@dataclass(frozen=True)
class Parcel:
    """What comes back from another machine."""

    outcome: Outcome
    lora: bytes | None
    images: tuple[Image.Image, ...]
    score: float | None


def run_on_ray(sweep: Sweep, host: Host, address: str, make_host: MakeHost, told: Told) -> list[Outcome]:
    """Do the runs that are not done yet, as many at a time as the cluster has places.

    Args:
        sweep: checked on this machine.
        host: of this machine, for the LoRA folder.
        address: of the cluster's head, such as ``ray://head:10001``, or `LOCAL`.
        make_host: called on the machine of each run.
        told: hears of each run that has come back.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
        OutputError: the results cannot be written.
    """
    ray = _ray()
    known = sweep.known()
    found = dict(known)
    try:
        ray.init(address=None if address == LOCAL else address, include_dashboard=None if address != LOCAL else False,
                 log_to_driver=False)  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        what = f"there is no Ray cluster at {address}, {str(error).splitlines()[0]}"
        raise UserError(what, remedy="start it with ray start --head, or give --ray local") from error
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus)(work)
        numbers = {r.mark: number for number, r in enumerate(sweep.runs)}
        waiting = {task.remote(r, sweep.look, make_host): r for r in sweep.runs if r.mark not in known}
        while waiting:
            for reference in ray.wait(list(waiting), num_returns=1)[0]:
                run = waiting.pop(reference)
                found[run.mark] = _received(run, reference, ray, host, sweep)
                told(numbers[run.mark], None)
                write(sweep.folder, [found[r.mark] for r in sweep.runs if r.mark in found])
    finally:
        ray.shutdown()
    return [found[run.mark] for run in sweep.runs]


def _ray() -> Any:  # noqa: ANN401 - a module without types
    try:
        import ray
    except ImportError as error:
        remedy = "pip install 'lora_lab[ray]', in an environment that is not the webui's"
        raise UserError("a sweep over machines needs the package ray", remedy=remedy) from error
    return ray


def _received(run: Combination, reference: Any, ray: Any, host: Host, sweep: Sweep) -> Outcome:  # noqa: ANN401
    """The result of a task, its files put where they belong."""
    try:
        parcel: Parcel = ray.get(reference)
    except ray.exceptions.RayError as error:
        text = f"its machine has not answered: {str(error).splitlines()[0]}"
        return Outcome(run.name, run.mark, run.changes, "failed", error=text)
    outcome = parcel.outcome
    if parcel.lora is not None and outcome.lora is not None:
        folder = Path(run.settings.output_dir) if run.settings.output_dir else host.paths().lora_dir
        path = folder / Path(outcome.lora).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parcel.lora)
        host.lora_saved(path)
        outcome = replace(outcome, lora=str(path))
    return keep_pictures(outcome, parcel.images, parcel.score, sweep.folder)


def work(run: Combination, look: Look, make_host: MakeHost) -> Parcel:
    """One run, on whatever machine it comes to."""
    with tempfile.TemporaryDirectory(prefix="lora_lab_") as name:
        folder = Path(name)
        try:
            host = make_host(folder)
            here = replace(run, settings=run.settings.replace(output_dir=str(folder / "loras"), logging_dir=""))
            outcome = replace(train(here, host, lambda event: None), mark=run.mark)
        except LoraLabError as error:
            return Parcel(Outcome(run.name, run.mark, run.changes, "failed", error=str(error)), None, (), None)
        if outcome.lora is None:
            return Parcel(outcome, None, (), None)
        images: list[Image.Image] = []
        score = None
        with contextlib.suppress(LoraLabError, OSError, RuntimeError, ValueError):
            images, score = look_at(host, Path(outcome.lora), look)
        return Parcel(outcome, Path(outcome.lora).read_bytes(), tuple(images), score)
