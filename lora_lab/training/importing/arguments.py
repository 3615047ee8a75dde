"""Words of a command line as options and values, as kohya's parsers take them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from lora_lab.training.importing.options import OPTIONS, matching
from lora_lab.training.importing.variables import Variables
from lora_lab.training.importing.words import Dialect, statements

ACCELERATE = frozenset((
    "config_file", "num_cpu_threads_per_process", "num_processes", "num_machines", "machine_rank", "mixed_precision",
    "multi_gpu", "gpu_ids", "main_process_ip", "main_process_port", "dynamo_backend", "dynamo_mode", "same_network",
    "dynamo_use_fullgraph", "dynamo_use_dynamic", "rdzv_backend", "rdzv_conf", "use_deepspeed", "cpu", "module", "m",
    "num_processes_per_node", "downcast_bf16", "quiet", "debug", "ipex", "use_xpu", "enable_cpu_affinity",
))  # fmt: skip
"""Options of ``accelerate launch`` itself, which stand before the script's name."""

ITS_OWN = ACCELERATE - {"config_file", "mixed_precision", "dynamo_backend"}
"""Those that kohya's scripts have not, so that they are known without the script's name too."""

_OPTION = re.compile(r"--?([A-Za-z][\w-]*)(?:=(.*))?\Z", re.DOTALL)


def options(words: Sequence[str]) -> dict[str, Any]:
    """``--k=v``, ``--k v``, switches, and lists up to the next option; the last one wins, as with argparse.

    Args:
        words: what stands behind the script's name; what is no option and belongs to none is passed over.
    """
    found: dict[str, Any] = {}
    at = 0
    while at < len(words):
        match = _OPTION.match(words[at])
        at += 1
        if match is None or not words[at - 1].startswith("--"):
            continue
        name = matching(match[1].replace("-", "_"))
        takes = OPTIONS[name].takes if name in OPTIONS else None
        values = [] if match[2] is None else [match[2]]
        while at < len(words) and takes != "flag" and not _is_option(words[at]) and (takes == "list" or not values):
            values.append(words[at])
            at += 1
        found[name] = _value(takes, values)
    return found


def _is_option(word: str) -> bool:
    """A word that begins with two dashes; ``-0.5`` is a number."""
    return word.startswith("--")


def _value(takes: str | None, values: list[str]) -> Any:  # noqa: ANN401 - text, list or switch
    if takes == "list":
        return values
    if not values:
        return True
    return values[0]


def split(text: str) -> list[str]:
    """A piece of a command line as words, quotation marks taken off. Backslashes stay: they are parts of paths."""
    variables = Variables(Dialect.BATCH)
    return [variables.text(word) for statement in statements(text, Dialect.BATCH) for word in statement]


def plain_words(value: object) -> list[str]:
    """``"a=1" "b=2"``, as the fields of kohya_ss hold it, or a list, as single words without quotation marks."""
    parts: Iterable[object] = value if isinstance(value, (list, tuple)) else [value]
    return [word for part in parts for word in str(part).replace('"', "").replace("'", "").split()]
