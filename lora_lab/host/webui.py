"""The running webui as a host. With its neighbours `webui_*.py` the only files that know the webui's `modules`.

AUTOMATIC1111's webui 1.10.1; the facts that this rests on are told where they are used.
"""

from __future__ import annotations

import re
import sys
import threading
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from modules import call_queue, paths, script_callbacks, sd_models, shared

from lora_lab.errors import HostBusyError
from lora_lab.host import webui_interrogate, webui_switch, webui_upscalers
from lora_lab.host.base import (
    CheckpointInfo,
    Host,
    HostCaptioner,
    HostPaths,
    HostTagger,
    HostUpscaler,
    LoadedModel,
    MemoryUse,
    Purpose,
)
from lora_lab.host.webui_checkpoint import CheckpointReader, check_supported, known_hash, live_model
from lora_lab.host.webui_interrupt import InterruptWatch
from lora_lab.host.webui_lease import lent
from lora_lab.host.webui_memory import memory_use
from lora_lab.host.webui_model import WebuiModel
from lora_lab.host.webui_parts import PartsCache
from lora_lab.host.webui_pictures import forget_prompts
from lora_lab.host.webui_queue import queue_wanted
from lora_lab.host.webui_restore import lora_extension, prompt_loras_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lora_lab.families import ListedCheckpoint
    from lora_lab.host.webui_types import CheckpointRecord, SdModel

WAIT_REMEDY = "wait for the checkpoint to load, or choose one in the webui's top left corner"


class WebuiHost(Host):
    """The running webui. One for the process: `host()`."""

    def __init__(self) -> None:
        self.kind = "webui"
        self._loads = 0
        self._holder: int | None = None
        self._parts = PartsCache()
        self._reader = CheckpointReader()
        self._home: CheckpointInfo | None = None
        self._others: dict[str, CheckpointRecord] = {}
        self._watch = InterruptWatch(shared.state)

    def listen(self) -> None:
        """Ask to be told of each loaded model. Called at every import of our script: Reload UI forgets callbacks."""
        script_callbacks.on_model_loaded(self._model_loaded)

    def _model_loaded(self, sd_model: SdModel) -> None:
        """Other weights are live, most often in the same object (another checkpoint of one config, or a VAE)."""
        self._loads += 1
        if self._others and sd_model.sd_checkpoint_info.filename == webui_switch.chosen().filename:
            self._home = self._reader.read(sd_model, self._loads)  # the person may have chosen another one

    def current(self) -> CheckpointInfo | None:
        """See `Host.current`."""
        return self._home or self._live()

    def _live(self) -> CheckpointInfo | None:
        return self._reader.read(live_model(), self._loads)

    def checkpoints(self) -> tuple[str, ...]:
        """See `Host.checkpoints`: the webui's own list."""
        return tuple(sd_models.checkpoint_tiles())

    def checkpoint(self, name: str) -> ListedCheckpoint:
        """See `Host.checkpoint`. The live one is what it was when it was loaded, whatever its file is now."""
        return webui_switch.listed(name, self.current())

    @contextmanager
    def switching(self, checkpoints: Sequence[ListedCheckpoint]) -> Iterator[None]:
        """See `Host.switching`. A checkpoint that the person chooses meanwhile is what is loaded in the end.

        Raises:
            HostBusyError: somebody else's is in force.
            CheckpointError: one of them is not in the webui's list, or the chosen one cannot be loaded.
        """
        others = {one.identity: webui_switch.record(one.path) for one in checkpoints}
        with call_queue.queue_lock:
            if self._others:
                raise HostBusyError("Other checkpoints are being tried already", remedy="wait for that, or stop it")
            live = live_model()
            wanted = webui_switch.chosen(None if live is None else live.sd_checkpoint_info)
            first = webui_switch.load(wanted).sd_checkpoint_info
            self._home, self._others = self._live(), others
        try:
            yield
        finally:
            with call_queue.queue_lock:
                try:
                    webui_switch.load(webui_switch.chosen(first))
                finally:
                    self._home, self._others = None, {}

    @contextmanager
    def lease(self, purpose: Purpose, expect: str | None = None) -> Iterator[LoadedModel]:
        """See `Host.lease`. Waits for the webui's queue, in which a picture may be under way.

        Raises:
            HostBusyError: nothing is loaded, or not what was expected, or this thread holds a lease already.
            CheckpointError: the live checkpoint is of a kind that is not supported yet.
        """
        if self._holder == threading.get_ident():
            raise HostBusyError("The live model is lent to this job already", remedy="give it back first")
        with call_queue.queue_lock:
            self._holder = threading.get_ident()
            self._watch.look()
            try:
                sd_model, info = self._wanted(expect)
                with lent(sd_model, self._parts.of(sd_model, self._loads), purpose):
                    yield WebuiModel(sd_model, info, purpose)
            finally:
                self._watch.look()
                self._holder = None

    def _wanted(self, expect: str | None) -> tuple[SdModel, CheckpointInfo]:
        """The live model, if it is the one expected.

        A refiner, or an override of the API, may have left another checkpoint live than the chosen one. The webui
        puts that right before the next picture; so do we.
        """
        sd_model = shared.sd_model  # loads the chosen checkpoint if none was loaded so far, as for a picture
        info = self._live()
        wanted = webui_switch.chosen() if expect is None and self._others else None
        if expect is not None and (info is None or info.identity != expect):
            wanted = self._others.get(expect) or (webui_switch.chosen() if self._chosen(expect) else None)
        if wanted is not None:
            sd_model, info = webui_switch.load(wanted), self._live()
        if sd_model is None:
            raise HostBusyError("No checkpoint is loaded in the webui", remedy=WAIT_REMEDY)
        if expect is not None and (info is None or info.identity != expect):
            raise HostBusyError(
                f"Another checkpoint is live now: {sd_model.sd_checkpoint_info.name}",
                remedy=f"load {Path(expect.split('|')[0]).name} again to go on",
            )
        check_supported(sd_model)
        if info is None:  # check_supported has refused all such models
            raise HostBusyError("The live checkpoint is not known", remedy=WAIT_REMEDY)
        return sd_model, info

    @staticmethod
    def _chosen(expect: str) -> bool:
        """Is the expected checkpoint the one chosen in the webui's settings?"""
        chosen = sd_models.checkpoint_aliases.get(shared.opts.sd_model_checkpoint)
        return chosen is not None and Path(chosen.filename) == Path(expect.split("|")[0])

    def paths(self) -> HostPaths:
        """See `Host.paths`. A webui open to a network keeps typed folders below ours, or `--gradio-allowed-path`."""
        data_dir = Path(paths.data_path).resolve() / "lora-lab"
        lora_dir = Path(shared.cmd_opts.lora_dir).resolve()
        roots: tuple[Path, ...] = ()
        if shared.cmd_opts.webui_is_non_local:
            allowed = shared.cmd_opts.gradio_allowed_path or []
            roots = (data_dir, lora_dir, *(Path(path).resolve() for path in allowed))
        return HostPaths(lora_dir, data_dir, roots, webui_interrogate.tagger_places())

    def interrogators(self) -> tuple[HostTagger | HostCaptioner, ...]:
        """See `Host.interrogators`."""
        return webui_interrogate.interrogators()

    def upscalers(self) -> tuple[HostUpscaler, ...]:
        """See `Host.upscalers`. The webui's own, as far as their files are there."""
        return (*super().upscalers(), *webui_upscalers.upscalers())

    def as_prompt(self, caption: str) -> str:
        """See `Host.as_prompt`. Brackets weigh words in the webui's prompts, and a backslash takes that from them."""
        return re.sub(r"([\\()\[\]])", r"\\\1", caption)

    def token_counter(self) -> Callable[[str], int] | None:
        """See `Host.token_counter`. Through the webui's own text encoder wrapper, which each family has."""
        sd_model = live_model()
        embedder = getattr(sd_model, "cond_stage_model", None)
        if embedder is None or not hasattr(embedder, "tokenize"):
            return None
        return lambda caption: len(embedder.tokenize([caption])[0])

    def default_clip_skip(self) -> int:
        """See `Host.default_clip_skip`."""
        return max(1, int(shared.opts.CLIP_stop_at_last_layers))

    def interrupt_requested(self) -> bool:
        """See `Host.interrupt_requested`. Each press is told once: ask once before a run begins, to drop old ones."""
        return self._watch.take()

    def pictures_wanted(self) -> bool:
        """See `Host.pictures_wanted`. Pictures, and whatever else stands in the webui's queue."""
        return queue_wanted()

    def lora_saved(self, path: Path) -> None:
        """See `Host.lora_saved`. Takes the queue lock only if it is free, so it may be called inside a lease too."""
        networks = lora_extension()
        if networks is None:
            return
        if hasattr(networks, "process_network_files"):
            networks.process_network_files([path.stem])  # adds it; a rescan would empty the list first
        else:
            networks.list_available_networks()
        # An overwritten file under the same name: the webui compares names only, and would keep the old weights and
        # the old prompt's states. A lease in force has taken the weights out already, and so will the next one.
        networks.networks_in_memory.pop(path.stem, None)
        forget_prompts()
        if call_queue.queue_lock.acquire(False):
            try:
                sd_model = live_model()
                if sd_model is not None:
                    with prompt_loras_out(self._parts.of(sd_model, self._loads)):
                        pass
            finally:
                call_queue.queue_lock.release()

    def full_hash(self, info: CheckpointInfo) -> str | None:
        """See `Host.full_hash`. From the webui's own cache; with --no-hashing there often is none."""
        return known_hash(info)

    def memory(self) -> MemoryUse:
        """See `Host.memory`."""
        return memory_use()


@lru_cache(maxsize=1)
def host() -> WebuiHost:
    """The one host of this webui. Survives Reload UI, as the package is not imported anew."""
    return WebuiHost()


def running_in_webui() -> bool:
    """True inside the webui's process."""
    return "modules.shared" in sys.modules
