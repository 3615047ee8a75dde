"""``lora-lab advise [DIR]``"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli.output import Output
from lora_lab.errors import OutputError, UserError

if TYPE_CHECKING:
    from lora_lab.dataset.scan import ScanReport
    from lora_lab.guide.answers import Answers
    from lora_lab.guide.recommend import Recommendation
    from lora_lab.training.settings import TrainSettings

EXAMPLE = "lora-lab advise pictures --making character --difficulty C --vram 12 --write mika.toml"
YES = ("y", "yes", "j", "ja")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The questions; without any of them they are asked, where there is somebody to ask."""
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="the dataset: pictures, captions, repeats")
    making = ("character", "style", "concept", "outfit", "several")
    parser.add_argument("--making", choices=making, help="what it is to be")
    parser.add_argument("--difficulty", metavar="A..I", help="of a character: A plain, C wings or armour, F an animal")
    parser.add_argument("--pictures", type=int, metavar="N", help="how many there are (default: counted in DIR)")
    parser.add_argument("--bad", action="store_true", help="the pictures are bad, or their style is not wanted")
    parser.add_argument("--no-captions", action="store_true", help="there are no captions, and will be none")
    parser.add_argument("--male", action="store_true", help="a male character, which checkpoints know less of")
    parser.add_argument("--asymmetric", action="store_true", help="one side differs: an eye patch, one glove")
    parser.add_argument("--known", action="store_true", help="the checkpoint draws it already, by its name")
    looks = ("keep", "free", "skin")
    parser.add_argument("--look", choices=looks, help="as in the pictures, free of their style, only the skin")
    parser.add_argument("--flexible", action="store_true", help="other clothes and poses matter more than likeness")
    parser.add_argument("--small-file", action="store_true", help="the smallest file that does")
    parser.add_argument("--dull", action="store_true", help="the pictures have dull colours")
    parser.add_argument("--knows", choices=("anime", "realistic", "furry", "other"), help="what the checkpoint draws")
    parser.add_argument("--family", choices=("sd1", "sd2", "sdxl"), help="of the checkpoint (default sd1)")
    parser.add_argument("--vram", type=float, metavar="GB", help="of the card (default: asked of the card; 0 is a CPU)")
    parser.add_argument("--resolution", type=int, metavar="PIXELS", help="of an unusual checkpoint")
    parser.add_argument("--seen", metavar="WHAT", help="what the last bake shows; --seen list names all")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="with --seen: the settings of that bake")
    parser.add_argument("--base", metavar="NAME", help="one of the guide's own settings: --base list names them")
    parser.add_argument("--name", metavar="NAME", help="of the LoRA, for --write (default: the only concept's)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a settings file (TOML or JSON) that trains")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


ASKED = ("making", "difficulty", "look", "knows", "family", "vram", "pictures", "folder", "base", "resolution")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Recommend settings, and say what rules have to say of them with these pictures."""
    from lora_lab.guide.recommend import recommend
    from lora_lab.training.settings import TrainSettings

    if args.base:
        return _base(args, output)
    if args.seen:
        return _seen(args, output)
    report = _scan(args.folder)
    answers = _answers(args, report, output)
    found = recommend(answers, _repeats(report))
    settings = TrainSettings.from_mapping({**found.settings, **_data(args, report)})
    _tell(found, output)
    findings = _findings(settings, report, answers)
    for finding in findings:
        output.line(f"{finding.rule.severity}: {finding.fired.text}: {finding.fired.remedy}")
    values = {**found.to_json(), "findings": [finding.to_json() for finding in findings]}
    if args.write:
        values["out"] = str(_write(settings, args, output))
    return values


def _seen(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """What a symptom of the last bake means for the next one."""
    from lora_lab.guide.diagnosis import SYMPTOMS
    from lora_lab.training.settings import TrainSettings, settings_file
    from lora_lab.workflow.advice import next_bake

    if args.seen == "list":
        for symptom in SYMPTOMS:
            output.line(f"{symptom.id:15} {symptom.seen}")
        return {"symptoms": {symptom.id: symptom.seen for symptom in SYMPTOMS}}
    settings = settings_file.read(args.settings).settings if args.settings else TrainSettings()
    found, changes = next_bake(settings, args.seen)
    output.line(f"{found.seen}: {found.means} ({found.source})")
    for name, value in changes.items():
        output.line(f"set {name} = {' '.join(map(str, value)) if isinstance(value, list) else value}")
    if found.by_hand:
        output.line(f"by hand: {found.by_hand}")
    told = {"id": found.id, "seen": found.seen, "means": found.means, "source": str(found.source)}
    return {"symptom": told, "changes": changes, "by_hand": found.by_hand}


def _tell(found: Recommendation, output: Output) -> None:
    output.line(f"{found.method.name} style: {found.method.why} ({found.method.source})")
    width = max(len(value.name) for value in found.values)
    for value in found.values:
        shown = " ".join(map(str, value.value)) if isinstance(value.value, list) else str(value.value)
        output.line(f"{value.name:{width}} = {shown}")
        output.line(f"{'':{width}}   {value.why} ({value.source})")
    for remark in found.remarks:
        output.line(f"note: {remark}")


def _scan(folder: Path | None) -> ScanReport | None:
    from lora_lab.dataset.options import DatasetOptions
    from lora_lab.dataset.scan import require_pictures, scan

    if folder is None:
        return None
    report = scan(folder, DatasetOptions())
    require_pictures(report)
    return report


def _answers(args: argparse.Namespace, report: ScanReport | None, output: Output) -> Answers:
    """From the flags, the dataset and the machine; asked for where nothing was given and somebody is there.

    Raises:
        SettingsError: an answer that is none.
    """
    from lora_lab.guide.answers import from_values
    from lora_lab.workflow.advice import has_8bit

    values: dict[str, Any] = {
        "male": args.male, "asymmetric": args.asymmetric, "known": args.known, "good": not args.bad,
        "flexible": args.flexible, "small_file": args.small_file, "dull": args.dull, "captions": not args.no_captions,
    }  # fmt: skip
    if report is not None:
        train = [p for s in report.subsets if not s.regularisation for p in s.pictures]
        values |= {"pictures": len(train), "captions": any(p.has_caption for p in train) and not args.no_captions}
    names = ("making", "difficulty", "look", "knows", "family", "vram", "pictures", "resolution")
    values |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if values.get("vram") is None:
        values |= _card()
    if not any(getattr(args, name) for name in ASKED if name != "folder") and sys.stdin.isatty() and not args.json:
        values |= ask(input, known=values)
    return from_values({**values, "bits8": has_8bit()})


def _card() -> dict[str, Any]:
    """What the graphics card says, where torch can ask it."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return {}
    from lora_lab.workflow.advice import bf16, card_memory

    return {"vram": card_memory(), "bf16": bf16()}


def ask(read: Callable[[str], str], known: dict[str, Any]) -> dict[str, Any]:
    """The questions, one after the other; an empty answer takes the usual one.

    Args:
        read: shows a question and gives the answer, such as `input`.
        known: what need not be asked (pictures of a dataset).
    """
    from lora_lab.guide import answers, difficulty

    def choose(text: str, choices: Any) -> str:  # noqa: ANN401 - a mapping of words
        lines = "\n".join(f"  {n}  {word}: {what}" for n, (word, what) in enumerate(choices.items(), 1))
        given = read(f"{text}\n{lines}\n> ").strip().lower()
        keys = list(choices)
        if given.isdecimal() and 1 <= int(given) <= len(keys):
            return str(keys[int(given) - 1])
        return given or str(keys[0])

    def yes(text: str) -> bool:
        return read(f"{text} (y/n) ").strip().lower() in YES

    found: dict[str, Any] = {"making": choose("What are you making?", answers.MAKINGS)}
    if found["making"] == "character":
        told: dict[str, bool] = {}
        for name, text in _questions(told):
            told[name] = yes(text)
        found["difficulty"] = difficulty.by_answers(**told).letter
        found["male"] = yes("Is the character male?")
    if "pictures" not in known:
        found["pictures"] = read("How many pictures are there? ").strip() or 40
    found["good"] = yes("Are they sharp and accurate, in several poses, and is their style welcome?")
    found["asymmetric"] = yes("Does one side of it differ from the other (eye patch, one glove)?")
    found["known"] = yes("Does the checkpoint draw it already, when asked by name?")
    found["knows"] = choose("What does the checkpoint draw?", answers.CHECKPOINTS)
    found["family"] = choose("Of which family is it?", {"sd1": "Stable Diffusion 1", "sd2": "2", "sdxl": "XL"})
    return found


def _questions(told: dict[str, bool]) -> Any:  # noqa: ANN401 - an iterator of pairs
    """Only those whose answer still matters."""
    from lora_lab.guide.difficulty import QUESTIONS

    for name, text in QUESTIONS:
        human = told.get("human", True)
        if name in ("unusual", "elaborate", "real") and not human:
            continue
        if name not in ("human", "unusual", "elaborate", "real") and human:
            continue
        if name in ("shape", "realistic") and told.get("two_and_two"):
            continue
        yield name, text


def _repeats(report: ScanReport | None) -> int:
    if report is None:
        return 1
    train = [s for s in report.subsets if not s.regularisation and s.pictures]
    items = sum(s.repeats * len(s.pictures) for s in train)
    return max(1, round(items / max(1, sum(len(s.pictures) for s in train))))


def _data(args: argparse.Namespace, report: ScanReport | None) -> dict[str, Any]:
    """Folder and name."""
    if args.folder is None:
        return {"output_name": args.name or ""}
    names = [] if report is None else [s.name for s in report.subsets if not s.regularisation]
    name = args.name or (names[0] if len(names) == 1 and names[0] else args.folder.resolve().name)
    return {"train_data_dir": str(args.folder.resolve()), "output_name": name}


def _findings(settings: TrainSettings, report: ScanReport | None, answers: Answers) -> list[Any]:
    from lora_lab.dataset.scan import scan
    from lora_lab.training.plan import options_of
    from lora_lab.workflow.advice import Around, advise

    if report is not None:
        report = scan(report.folder, options_of(settings))  # with the sizes that are recommended
    return advise(settings, report, Around(vram=answers.vram, answers=answers))


def _base(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """One of the guide's own settings.

    Raises:
        UserError: there is none of that name.
    """
    from lora_lab.guide.bases import BASES, BY_NAME
    from lora_lab.training.settings import TrainSettings

    if args.base == "list":
        for base in BASES:
            output.line(f"{base.name:18} {base.text} ({base.source}), {base.pictures} pictures")
        return {"bases": [base.name for base in BASES]}
    if args.base not in BY_NAME:
        raise UserError(f"the guide has no settings {args.base!r}", remedy=f"there are {', '.join(BY_NAME)}")
    base = BY_NAME[args.base]
    output.line(f"{base.text} ({base.source}): about {base.steps:,} steps at batch 1")
    for name, value in base.settings.items():
        output.line(f"{name} = {value}")
    if base.remark:
        output.line(f"note: {base.remark}")
    report = _scan(args.folder)
    settings = TrainSettings.from_mapping({**base.settings, **_data(args, report)})
    told = [{"name": n, "value": v, "why": base.text, "source": str(base.source)} for n, v in base.settings.items()]
    values: dict[str, Any] = {"settings": told, "remarks": [base.remark] if base.remark else []}
    if args.write:
        values["out"] = str(_write(settings, args, output))
    return values


def _write(settings: TrainSettings, args: argparse.Namespace, output: Output) -> Path:
    """The settings file.

    Raises:
        OutputError: it is there already, or cannot be written.
    """
    from lora_lab.training.settings import settings_file

    path: Path = args.write
    if path.exists() and not args.force:
        raise OutputError("the file exists already", file=path, remedy="choose another name, or --force")
    settings_file.write(settings, path)
    more = "" if settings.train_data_dir else " (give it pictures: --set train_data_dir=DIR --set output_name=NAME)"
    output.line(f"written: {path}; train it with lora-lab train {path}{more}")
    return path
