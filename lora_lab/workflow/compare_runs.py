"""The runs of one dataset side by side: what was changed from one to the next, scores, stars, a ranking. No torch.

What a person gives a run (stars, a note) and what was measured of it stand in one file of the project's folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import LoraLabError, SettingsError
from lora_lab.whole_file import write_whole
from lora_lab.workflow.run_list import ListedRun, list_runs

if TYPE_CHECKING:
    from lora_lab.training.settings import TrainSettings

FILE = "runs.json"
"""In the project's folder."""
MOST_STARS = 5
GOOD_STARS = 3
GOOD_CONCEPT = 0.6
"""From these on a run is a good one."""
NOT_COMPARED = frozenset({"output_name", "output_dir", "logging_dir", "training_comment", "sample_prompts"})
"""Settings that change nothing of what is learnt."""


@dataclass(frozen=True)
class Score:
    """What was measured of a LoRA on generated pictures, each 0..1."""

    concept: float
    """How much of the subject its trigger shows."""
    leakage: float
    """How much of it shows without the trigger, above what the bare checkpoint shows."""
    drift: float = 0.0
    """How far pictures without the trigger moved away from the bare checkpoint's."""
    flexibility: float | None = None
    """Share of other tags that are obeyed beside the trigger; None where none was asked for."""


@dataclass(frozen=True)
class ComparedRun:
    """A run of the dataset, as the page shows it."""

    run: ListedRun
    settings: Mapping[str, Any]
    """What is not as usual."""
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Setting -> its value in the run before, and here; empty for the first."""
    score: Score | None = None
    stars: int = 0
    """The person's own, 0 (none given) to `MOST_STARS`."""
    note: str = ""


def runs_of(dataset: Path, runs: Path, project: Path) -> list[ComparedRun]:
    """All runs that trained on a dataset, the oldest first.

    Args:
        dataset: the folder of pictures.
        runs: where runs' folders are.
        project: the project's folder.

    Raises:
        SettingsError: the project's file is damaged.
    """
    kept, found = _kept(project), []
    before: Mapping[str, Any] | None = None
    for run in list_runs(runs):
        settings = _settings(runs / run.id)
        if settings is None or not _same(settings.get("train_data_dir", ""), dataset):
            continue
        mine = kept.get(run.id, {})
        score = Score(**mine["score"]) if mine.get("score") else None
        changed = {} if before is None else differences(before, settings)
        found.append(ComparedRun(run, settings, changed, score, int(mine.get("stars", 0)), str(mine.get("note", ""))))
        before = settings
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Setting -> old and new value, for those that differ; what a mapping lacks is as usual."""
    from lora_lab.training.settings import TrainSettings

    usual = {spec.name: spec.default for spec in TrainSettings.specs()}
    names = [name for name in usual if name in before or name in after]
    pairs = {name: (before.get(name, usual[name]), after.get(name, usual[name])) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name not in NOT_COMPARED}


def rank(runs: Sequence[ComparedRun]) -> list[tuple[ComparedRun, float]]:
    """The best first, each with its mean place (1 is the best) among those that have a number.

    Held-out loss, concept, leakage and flexibility count once each, stars twice: they are what the person saw. A run
    without a number in a column gets the column's last place.
    """
    columns: list[tuple[int, Callable[[ComparedRun], float | None]]] = [
        (1, lambda r: r.run.val_loss),
        (1, lambda r: None if r.score is None else -r.score.concept),
        (1, lambda r: None if r.score is None else r.score.leakage),
        (1, lambda r: None if r.score is None or r.score.flexibility is None else -r.score.flexibility),
        (2, lambda r: -float(r.stars) if r.stars else None),
    ]
    places = [0.0] * len(runs)
    weights = 0
    for weight, value in columns:
        numbers = [value(run) for run in runs]
        known = sorted({number for number in numbers if number is not None})
        if not known:
            continue
        weights += weight
        for i, number in enumerate(numbers):
            place = len(runs) if number is None else 1 + sum(other < number for other in _given(numbers))
            places[i] += weight * place
    order = sorted(range(len(runs)), key=lambda i: (places[i], -i))
    return [(runs[i], places[i] / weights if weights else 0.0) for i in order]


def bad_bakes(settings: TrainSettings, runs: Path, project: Path) -> int:
    """Runs of these pictures with this seed that were judged, by stars or by a score, if none of them was good; else 0.

    Raises:
        SettingsError: the project's file is damaged.
    """
    if settings.seed is None:
        return 0
    judged = {run: one for run, one in _kept(project).items() if one.get("stars") or one.get("score")}
    same = [one for run, one in judged.items() if _seed_of(runs / run) == settings.seed]
    return 0 if any(_is_good(one) for one in same) else len(same)


def _is_good(kept: Mapping[str, Any]) -> bool:
    """By the person's stars if there are any: they are what was seen."""
    return bool(kept["stars"] >= GOOD_STARS if kept.get("stars") else kept["score"]["concept"] >= GOOD_CONCEPT)


def _seed_of(run: Path) -> int | None:
    """Only that: a form asks at every change, and to read all settings takes its time."""
    try:
        found = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("seed") if isinstance(found, dict) else None


def _given(numbers: Sequence[float | None]) -> list[float]:
    return [number for number in numbers if number is not None]


def keep(project: Path, run: str, **changes: Any) -> None:  # noqa: ANN401 - stars, note, score
    """Remember something of a run: `stars`, `note`, `score`.

    Raises:
        SettingsError: stars out of range, or the project's file is damaged.
        OutputError: it cannot be written.
    """
    if not 0 <= int(changes.get("stars", 0)) <= MOST_STARS:
        raise SettingsError(f"{changes['stars']} stars", remedy=f"give 0 to {MOST_STARS}")
    if isinstance(changes.get("score"), Score):
        changes["score"] = asdict(changes["score"])
    kept = _kept(project)
    kept[run] = {**kept.get(run, {}), **changes}
    write_whole(project / FILE, json.dumps(kept, ensure_ascii=False, indent=1), "what is known of the project's runs")


def next_step(runs: Sequence[ComparedRun]) -> str:
    """What to do next, and why, in one or two sentences, from what is known of the last runs."""
    scored = [run for run in runs if run.score is not None]
    if not runs:
        return "Train a first run; its numbers will stand here."
    if not scored:
        return "Score the runs that left a LoRA: then this page can say which one is the better."
    best = rank(scored)[0][0]
    last = scored[-1]
    assert last.score is not None
    if last is not best and last.changed and best.score is not None:
        names = ", ".join(last.changed)
        return (
            f"{best.run.name} is still the best (concept {best.score.concept:.0%}, leakage {best.score.leakage:.0%}). "
            f"What the last run changed ({names}) did not help: go back to its settings and change one thing."
        )
    return _by_score(last.run.name, last.score)


def _by_score(name: str, score: Score) -> str:
    if score.leakage > 0.15:
        return (
            f"{name} shows {score.leakage:.0%} of the subject without its trigger: make regularisation pictures (in "
            "Dataset), train fewer steps, or halve text_encoder_lr; say in the captions what does not belong to the "
            "subject."
        )
    if score.concept < 0.6:
        return (
            f"{name} shows {score.concept:.0%} of the subject: it learnt too little. Train longer, or raise unet_lr; "
            "look at its strengths in the panel Test: best above 1 says the same."
        )
    if score.flexibility is not None and score.flexibility < 0.6:
        return (
            f"{name} obeys {score.flexibility:.0%} of the other tags: it is overfit. Take an earlier snapshot, train "
            "fewer steps, or caption what should stay free."
        )
    return f"{name} shows the subject ({score.concept:.0%}) and little of it elsewhere: compare its snapshots in Test."


def _settings(folder: Path) -> dict[str, Any] | None:
    from lora_lab.training.settings import settings_file

    try:
        return settings_file.read(folder / "settings.json").settings.to_mapping(changed_only=True)
    except LoraLabError:
        return None


def _same(typed: str, dataset: Path) -> bool:
    try:
        return bool(typed) and Path(typed).expanduser().resolve() == dataset.resolve()
    except (OSError, ValueError):
        return False


def _kept(project: Path) -> dict[str, dict[str, Any]]:
    path = project / FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for row in found.values():
            replace(Score(0.0, 0.0), **(row.get("score") or {}))
            int(row.get("stars", 0))
        return dict(found)
    except (OSError, UnicodeDecodeError, ValueError, TypeError, AttributeError, RecursionError) as error:
        remedy = "move it away to begin anew; the runs themselves are not touched"
        raise SettingsError("what is known of the project's runs is damaged", file=path, remedy=remedy) from error
