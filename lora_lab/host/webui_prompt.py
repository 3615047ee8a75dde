"""Block weights in the webui's own prompts, through the objects of its built-in Lora extension.

The extension reads a prompt's ``<lora:...>`` into `networks.loaded_networks`, whose `modules` are asked for their
finished delta, layer by layer, at the layer's next forward. We stand before it in the webui's register of extra
networks: what only we read is taken out of the tags, the extension loads the files, and each network that has block
weights is replaced by a view of it, whose modules are shallow copies with a multiplier that holds the layer's weight.
A multiplier is the last thing that is done to a delta, so that 0 is off for every kind. The extension's own networks
stay as they are, in its own memory.

A layer remembers which networks are in its weights by their names and strengths; a view's name therefore tells its
block weights.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modules import extra_networks, script_callbacks, scripts

import lora_lab
from lora_lab.errors import LoraLabError, SettingsError
from lora_lab.host.webui_axes import PromptAxes, add_axes
from lora_lab.host.webui_checkpoint import family_of, live_model
from lora_lab.host.webui_restore import lora_extension

if TYPE_CHECKING:
    from lora_lab.families import Family

log = logging.getLogger(lora_lab.__name__)
NAME, ALIASES = "lora", ("lora", "lyco")
INFOTEXT, INFOTEXT_HIRES = "Lora block weights", "Hires lora block weights"
OTHER_EXTENSION = "lora_block_weight.py"
ONE_MATRIX = ("_q_proj", "_k_proj", "_v_proj", "_out_proj")
"""open_clip's attention takes these four of a layer together or not at all."""


class TagWeights(Protocol):
    """What a tag means (`network.prompt_weights.PromptWeights`)."""

    tag: Any

    @property
    def windowed(self) -> bool: ...
    @property
    def told(self) -> str: ...
    @property
    def plain(self) -> list[str]: ...
    @property
    def items(self) -> list[str]: ...
    def acts(self, step: int) -> bool: ...
    def weight_of_layer(self, stored: str, live: str) -> float: ...


class TagReader(Protocol):
    """Reads tags (`network.prompt_weights.PromptReader`)."""

    def read(
        self, tags: Sequence[Sequence[str]], family: Family | None, seed: int
    ) -> Sequence[TagWeights | None]: ...


class PromptLoras(extra_networks.ExtraNetwork):  # type: ignore[misc]
    """The webui's ``<lora:...>``, with block weights."""

    def __init__(self, theirs: Any, reader: TagReader) -> None:  # noqa: ANN401
        super().__init__(NAME)
        self.theirs = theirs
        self._reader = reader
        self._loaded: list[tuple[Any, TagWeights | None]] = []
        """Networks of the picture under way, if some act in some steps only."""

    def activate(self, p: Any, params_list: list[Any]) -> None:  # noqa: ANN401
        """Load the networks of a prompt; called before each batch, and again before a second pass."""
        self._loaded = []
        family = self._family()
        try:
            self._settle(p, self._of_second_pass(p), family)
            meant = self._settle(p, params_list, family)
        except LoraLabError as error:
            _refuse(p, error)
            self.theirs.activate(p, [])
            return
        given = [
            params if found is None else extra_networks.ExtraNetworkParams(items=found.plain)
            for params, found in zip(params_list, meant, strict=True)
        ]
        self.theirs.activate(p, given)
        self._tell(p, meant)
        if any(meant):
            self._put(p, meant, [params.positional[0] for params in given])

    def deactivate(self, p: Any) -> None:  # noqa: ANN401
        """After a picture: networks whose steps are over are listed again, as the webui leaves them."""
        self._at_step(None)
        self._loaded = []
        self.theirs.deactivate(p)

    def before_step(self, params: Any) -> None:  # noqa: ANN401
        """Before a step of a sampler, counted anew in each pass."""
        self._at_step(params.sampling_step)

    def _family(self) -> Family | None:
        sd_model = live_model()
        return None if sd_model is None else family_of(sd_model)

    @staticmethod
    def _of_second_pass(p: Any) -> list[Any]:  # noqa: ANN401
        """Tags of the second pass, which are read with the first so that what is wrong is said before any work."""
        data = getattr(p, "hr_extra_network_data", None) or {}
        return [params for name, found in data.items() if name in ALIASES for params in found]

    def _settle(self, p: Any, params_list: list[Any], family: Family | None) -> Sequence[TagWeights | None]:  # noqa: ANN401
        """Read tags, and leave in them what they mean.

        The webui keeps the states of the last prompt and takes them again where prompt and tags are the same; so a tag
        must tell what was drawn for it, or what a preset means by now.
        """
        seed = (getattr(p, "seeds", None) or [getattr(p, "seed", 0)])[0]
        meant = self._reader.read([params.items for params in params_list], family, int(seed))
        for params, found in zip(params_list, meant, strict=True):
            if found is not None:
                vars(params).update(vars(extra_networks.ExtraNetworkParams(items=found.items)))
        return meant

    @staticmethod
    def _tell(p: Any, meant: Sequence[TagWeights | None]) -> None:  # noqa: ANN401
        """What presets, X, R and U are goes into the infotext."""
        text = "; ".join(f"{found.tag.name}: {found.told}" for found in meant if found is not None and found.told)
        told = p.extra_generation_params
        if not getattr(p, "is_hr_pass", False):
            told.pop(INFOTEXT, None)
            told.update({INFOTEXT: text} if text else {})
        elif text != told.get(INFOTEXT, ""):
            told[INFOTEXT_HIRES] = text or "none"

    def _put(self, p: Any, meant: Sequence[TagWeights | None], names: Sequence[str]) -> None:  # noqa: ANN401
        """Views in the place of the networks that have block weights."""
        networks = lora_extension()
        if networks is None:
            return
        tags = list(zip(names, meant, strict=True))
        loaded: list[tuple[Any, TagWeights | None]] = []
        for net in networks.loaded_networks:
            place = next((n for n, (name, _) in enumerate(tags) if name == net.mentioned_name), None)
            found = None if place is None else tags.pop(place)[1]
            if found is None:
                loaded.append((net, None))
                continue
            if not net.modules:
                remedy = "choose one that was trained for its family"
                _refuse(p, SettingsError(f"<lora:{net.name}> has no layer of the live checkpoint", remedy=remedy))
            networks.networks_in_memory[net.name] = net  # or the next picture would read its file again
            loaded.append((view(net, found), found))
        networks.loaded_networks[:] = [net for net, _ in loaded]
        if any(found is not None and found.windowed for _, found in loaded):
            self._loaded = loaded

    def _at_step(self, step: int | None) -> None:
        networks = lora_extension()
        if networks is None or not self._loaded:
            return
        wanted = [net for net, found in self._loaded if step is None or found is None or found.acts(step)]
        if [id(net) for net in wanted] != [id(net) for net in networks.loaded_networks]:
            networks.loaded_networks[:] = wanted


def view(net: Any, meant: TagWeights) -> Any:  # noqa: ANN401
    """A network that shares the tensors of `net` and has strengths and weights of its own. Layers at 0 are left out."""
    found = copy.copy(net)
    said = "|".join((*meant.items, str(net.mtime)))
    found.name = f"{net.name} {hashlib.sha256(said.encode()).hexdigest()[:16]}"
    found.te_multiplier, found.unet_multiplier, found.dyn_dim = meant.tag.text_encoder, meant.tag.unet, meant.tag.dyn
    weights = {key: meant.weight_of_layer(module.network_key, key) for key, module in net.modules.items()}
    found.modules = {}
    for key, module in net.modules.items():
        if weights[key] or _beside_others(key, weights):
            own = found.modules[key] = copy.copy(module)
            own.network = found
            if weights[key] != 1:
                own.multiplier = _Multiplied(own, weights[key])
    return found


class _Multiplied:
    """In the place of a module's `multiplier`."""

    def __init__(self, module: Any, weight: float) -> None:  # noqa: ANN401
        self._module, self._weight = module, weight

    def __call__(self) -> float:
        return float(type(self._module).multiplier(self._module)) * self._weight


def _beside_others(key: str, weights: dict[str, float]) -> bool:
    """Is it one of four that are taken together, of which another one acts?"""
    ending = next((end for end in ONE_MATRIX if key.endswith(end)), None)
    return ending is not None and any(weights.get(key.removesuffix(ending) + end) for end in ONE_MATRIX)


def _refuse(p: Any, error: LoraLabError) -> None:  # noqa: ANN401
    """Let the picture end with the sentence of an error, where the webui would log one and make another picture.

    What is raised while extra networks are activated is logged and passed over; what `sample` raises is shown.
    """

    def sample(*_: object, **__: object) -> None:
        raise error

    p.sample = sample


class Door:
    """Puts `PromptLoras` into the webui's register, and axes into its plot, at each start of its page."""

    def __init__(self) -> None:
        self._reader: TagReader | None = None
        self._axes: PromptAxes | None = None
        self._told = False

    def listen(self, reader: TagReader, axes: PromptAxes) -> None:
        """Called at every import of our script: Reload UI forgets callbacks and registers its own again."""
        self._reader, self._axes = reader, axes
        script_callbacks.on_before_ui(self.open)
        script_callbacks.on_app_started(lambda *_: self.open())
        script_callbacks.on_cfg_denoiser(self.before_step)

    def open(self) -> None:
        """Stand before the built-in extension; not where sd-webui-lora-block-weight does the same."""
        if lora_extension() is None or self._reader is None or self._axes is None:
            return
        if any(Path(data.path).name == OTHER_EXTENSION for data in scripts.scripts_data):
            if not self._told:
                log.warning("sd-webui-lora-block-weight is installed: it reads lbw= in prompts, LoRA Lab does not")
            self._told = True
            return
        add_axes(self._axes)  # before the page is built, when the extension may not be registered yet
        registry, aliases = extra_networks.extra_network_registry, extra_networks.extra_network_aliases
        theirs = registry.get(NAME)
        if theirs is None or isinstance(theirs, PromptLoras):
            return
        ours = registry[NAME] = PromptLoras(theirs, self._reader)
        aliases.update({alias: ours for alias, found in aliases.items() if found is theirs})

    def before_step(self, params: Any) -> None:  # noqa: ANN401
        """See `PromptLoras.before_step`."""
        found = extra_networks.extra_network_registry.get(NAME)
        if isinstance(found, PromptLoras):
            found.before_step(params)


@lru_cache(maxsize=1)
def door() -> Door:
    """The one of this webui."""
    return Door()
