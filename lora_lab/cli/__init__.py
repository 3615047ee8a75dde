"""The command line: ``lora-lab VERB``. One module a verb, imported when it is asked for; torch only when it works.

A verb's module has `EXAMPLE`, `add_arguments(parser)` and ``run(args, output) -> dict``, whose result is what
``--json`` prints last.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NoReturn

from lora_lab import __version__
from lora_lab.cli.output import Output
from lora_lab.errors import Interrupted, LoraLabError, UserError

VERBS = MappingProxyType(
    {
        "demo": "train a small LoRA on the demo checkpoint, and show before and after",
        "ui": "open the tab in a browser, without a webui",
        "scan": "check a dataset: counts, problems, buckets, steps",
        "tag": "tag pictures with WD taggers, and write captions",
        "caption": "change captions in bulk, with a preview, a history and undo",
        "advise": "settings for what you are making, each with its reason; what will hurt",
        "explain": "what a setting or a word means, its range, its reasons",
        "train": "train LoRAs from settings files, one after another",
        "sweep": "one run for each of several values of settings; a table and a grid of pictures",
        "blocks": "test a LoRA's block weights, strengths and snapshots on generated previews",
        "runs": "list the runs of a data folder; pause, resume or stop one",
        "settings": "read settings of any kind, tell what was taken, write them as kohya's; presets",
        "inspect": "tell what is in a LoRA file, compare two, edit metadata",
        "library": "search a folder of LoRAs; which of them were trained on a checkpoint",
        "extract": "a LoRA from the difference of two checkpoints",
        "merge": "LoRAs into a checkpoint, out of one again, or into one LoRA",
        "resize": "other ranks: fixed, by rule, by file size or error",
        "bake": "strengths and block weights into a LoRA's own file",
        "convert": "other key names (kohya, diffusers) and precision",
        "split": "a DyLoRA into LoRAs of single ranks",
    }
)
"""Verb (and module) -> one line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit status: 0 done, 2 the user's mistake, 1 ours, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    output = Output(json="--json" in words)
    try:
        parser, module = _parser(words)
        args = parser.parse_args(words)
        if module is None:
            parser.print_help()
            return 0
        output.result(module.run(args, output))
    except LoraLabError as error:
        output.error(error)
        return error.exit_status
    except KeyboardInterrupt:
        output.error(Interrupted("interrupted"))
        return Interrupted.exit_status
    except BrokenPipeError:
        return 1
    except Exception as error:
        # The edge of the program: a defect of ours is told in one line, with the traceback where it helps to mend it.
        if "--json" not in words and not output.silent:
            traceback.print_exc()
        what = f"an error of ours, {type(error).__name__}: {error}"
        output.error(LoraLabError(what, remedy="please report it with the lines above"))
        return 1
    return output.status


class _Parser(argparse.ArgumentParser):
    """Tells a wrong word like every other mistake: one line, or one object with ``--json``."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`.

        Raises:
            UserError: always.
        """
        raise UserError(message, remedy=f"see {self.prog} --help")


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, Any]:
    """The parser, with the arguments of the verb that was given; other verbs are not imported.

    Raises:
        UserError: there is no such verb.
    """
    parser = _Parser(prog="lora-lab", description="Train, tag and test LoRAs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lora-lab {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", title="verbs")
    asked = next((word for word in words if not word.startswith("-")), None)
    if asked is not None and asked not in VERBS:
        near = get_close_matches(asked, VERBS, 1)
        remedy = f"did you mean {near[0]}" if near else f"use one of {', '.join(VERBS)}"
        raise UserError(f"there is no verb {asked!r}", remedy=remedy)
    module = None
    for verb, line in VERBS.items():
        if verb != asked:
            verbs.add_parser(verb, help=line)
            continue
        module = importlib.import_module(f"lora_lab.cli.{verb}")
        sub = verbs.add_parser(
            verb, help=line, description=line[0].upper() + line[1:] + ".", epilog=f"example: {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip
        module.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print the result as one line of JSON, and no progress")
    return parser, module
