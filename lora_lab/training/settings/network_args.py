"""kohya's network_module and network_args, turned into the settings that say the same. No torch.

In kohya's scripts the kind of an adapter is the name of a Python module, and its options are a list of name=value.
Here each option is a setting of its own; a settings object never holds the two.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.network.recipe import ALGOS
from lora_lab.training.settings.field_kinds import MODULES

ALIASES = {
    "dropout": "network_dropout", "unit": "block_size", "use_cp": "use_tucker", "use_conv_cp": "use_tucker",
    "constrain": "constraint", "weight_decompose": "dora_wd", "wd_on_out": "wd_on_output",
}  # fmt: skip
"""Options of networks whose setting has another name here."""
NEEDLESS = frozenset({"bypass_mode", "disable_conv_cp", "train_t5xxl", "warn_on_unmatched", "verbose"})
"""Options that change no number here: pieces are added beside the layer anyway, and there is no T5."""
KOHYAS_OFT = frozenset({"enable_all_linear", "enable_conv"})
"""Options of networks.oft that choose its layers."""
OLD_MODULES = {"locon.locon_kohya": "lycoris.kohya", "lycoris.locon_kohya": "lycoris.kohya"}
OLD_ALGOS = {"lora": "lora", "kron": "lokr", "loha": "loha"}


def folded(values: Mapping[str, Any], known: Callable[[str], str | None]) -> Mapping[str, Any]:
    """`values` with the two of kohya replaced by what they say.

    Args:
        values: settings by name, as given.
        known: a setting's own name for a name of it, None for one that does not exist.

    Raises:
        SettingsError: a module or option that does not exist, one that is given in two ways, or no name=value.
    """
    module, entries = values.get("network_module"), values.get("network_args")
    if not module and not entries:
        return values
    rest = {name: value for name, value in values.items() if name not in ("network_module", "network_args")}
    given = {known(name) or name for name, value in rest.items() if value not in ("", None)}
    options = _options(entries or (), known)
    name = _module(module)
    usual = _usual(name, options, rest)
    for option, value in {**usual, **options}.items():
        if option in given and option in options and str(rest.get(option, value)) != str(value):
            what = f"{option} is given as a setting ({rest.get(option)}) and in network_args ({value})"
            raise SettingsError(what, remedy="leave one of them out")
        if option not in given or option in options:
            rest[option] = value
    return rest


def _module(value: object) -> str | None:
    if not value:
        return None
    name = OLD_MODULES.get(str(value).strip(), str(value).strip())
    if name not in MODULES:
        what = f"network_module {name!r} is not known"
        raise SettingsError(what, remedy=f"give one of {', '.join(MODULES)}, or choose an algo instead")
    return name


def _options(entries: object, known: Callable[[str], str | None]) -> dict[str, str]:
    """The list by the settings' names.

    Raises:
        SettingsError: no name=value, a name that does not exist, or one twice.
    """
    found: dict[str, str] = {}
    words: Iterable[Any] = entries.split() if isinstance(entries, str) else entries  # type: ignore[assignment]
    for entry in words:
        key, equals, value = str(entry).strip().strip("\"'").partition("=")
        if not equals:
            raise SettingsError(f"network_args has {key!r}", remedy="give entries like conv_dim=8")
        if key in NEEDLESS or value.strip() in ("", "None"):
            continue
        name = key if key in KOHYAS_OFT else known(ALIASES.get(key, key))
        if name is None or name in ("network_module", "network_args"):
            raise _unknown(key)
        if name in found:
            raise SettingsError(f"network_args has {key} twice", remedy="leave one of them out")
        found[name] = value.strip()
    return found


def _unknown(key: str) -> SettingsError:
    from lora_lab.training.settings import TrainSettings

    names = [*ALIASES, *(s.name for s in TrainSettings.specs() if s.group in ("kinds", "network", "blocks"))]
    nearest = difflib.get_close_matches(key, names, n=1)
    remedy = f"did you mean {nearest[0]}" if nearest else "leave it out"
    return SettingsError(f"network_args has {key!r}, which no network here knows", remedy=remedy)


def _usual(module: str | None, options: dict[str, str], rest: Mapping[str, Any]) -> dict[str, Any]:
    """What the module takes where nothing is said; entries of `options` that have no setting are used up."""
    if module == "lycoris.kohya":
        return _lycoris(options, rest)
    if module == "networks.oft":
        linear = options.pop("enable_all_linear", "") or options.get("enable_conv", "")
        conv = options.pop("enable_conv", "")
        preset = "unet-only" if _true(conv) else "unet-transformer-only" if _true(linear) else "attn-only"
        return {"algo": "oft", "preset": preset, "constraint": rest.get("network_alpha") or 1,
                "network_train_unet_only": True}  # fmt: skip
    for name in KOHYAS_OFT & options.keys():
        raise _unknown(name)
    found: dict[str, Any] = {}
    if options.get("conv_dim") in ("0", None) and "conv_dim" in options:
        options.pop("conv_dim")
        options.pop("conv_alpha", None)
    if "conv_dim" in options:
        found["conv_alpha"] = 1
    if module == "networks.dylora":
        return {**found, "algo": "dylora", "block_size": 1}
    return {**found, "algo": "lora-fa"} if module == "networks.lora_fa" else found


def _lycoris(options: dict[str, str], rest: Mapping[str, Any]) -> dict[str, Any]:
    """LyCORIS's: convolutions are on, with the rank and alpha of all else."""
    algo = options.get("algo", "lora").lower()
    options["algo"] = OLD_ALGOS.get(algo, algo)
    if options["algo"] not in ALGOS:
        what = f"algo {algo!r} is not known"
        raise SettingsError(what, remedy=f"give one of {', '.join(ALGOS)}")
    found: dict[str, Any] = {"preset": "ia3" if algo == "ia3" else "full"}
    if algo == "glora" and "preset" not in options:
        found["preset"] = ""
    if options.get("conv_dim") == "0":
        del options["conv_dim"]
        options.pop("conv_alpha", None)
        found["preset"] = "full-lin"
    if "conv_dim" in options and rest.get("network_alpha") not in ("", None):
        found["conv_alpha"] = rest["network_alpha"]
    return found


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes", "on")
