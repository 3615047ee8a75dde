"""What the guide's rules look at, put together from settings, the dataset's check and the host. No torch here."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.dataset.captions import first_line, split_tags
from lora_lab.dataset.scan import ScanReport, epoch_items
from lora_lab.demo import assets, world
from lora_lab.errors import OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.guide.answers import Answers, knows_by_name
from lora_lab.guide.diagnosis import BY_ID, Symptom
from lora_lab.guide.facts import Concept, Course, Facts, Length, Rate
from lora_lab.guide.recommend import recommend
from lora_lab.guide.rules import findings
from lora_lab.guide.rules.base import Finding
from lora_lab.training.learning.optimizer_kinds import kind_of, parse_args
from lora_lab.training.plan import Plan, groups_of, make_plan
from lora_lab.training.settings import TrainSettings
from lora_lab.training.status import RunStatus
from lora_lab.workflow.compare_runs import bad_bakes
from lora_lab.workflow.project_folder import project_folder

if TYPE_CHECKING:
    from lora_lab.dataset.folders import Subset
    from lora_lab.host.base import CheckpointInfo, Host
    from lora_lab.training.events import LossBins

Counting = Callable[[str], int]
SIZES = ("resolution", "min_bucket_reso", "max_bucket_reso")
SILENCED = "silenced.json"
"""Of our data folder: rules that the person does not want to hear."""


@dataclass(frozen=True)
class Around:
    """What is known besides settings and pictures."""

    checkpoint: CheckpointInfo | None = None
    counter: Counting | None = None
    """Tokens of a text for the live checkpoint."""
    vram: float | None = None
    """GB of the card; 0 for a CPU."""
    answers: Answers | None = None
    course: Course = Course()
    same_seed_bakes: int = 0
    """See `Facts`."""


def around(host: Host, answers: Answers | None = None, settings: TrainSettings | None = None) -> Around:
    """What a host tells of itself, without loading anything; and of earlier runs with these pictures and this seed.

    Raises:
        SettingsError: what is known of the project's runs is damaged.
    """
    paths = host.paths()
    bakes = 0
    if settings is not None and settings.train_data_dir:
        project = project_folder(Path(settings.train_data_dir), paths.data_dir)
        bakes = bad_bakes(settings, paths.data_dir / "runs", project)
    return Around(host.current(), host.token_counter(), card_memory(), answers, same_seed_bakes=bakes)


def card_memory() -> float | None:
    """GB of the graphics card; None where torch is not loaded yet (asking would load it), 0 without a card."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if not torch.cuda.is_available():
        return 0.0
    return float(round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1))


def bf16() -> bool | None:
    """Can the card compute in bfloat16? None where torch is not loaded yet, or there is no card."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return bool(torch.cuda.get_device_capability(0) >= (8, 0))


def has_8bit() -> bool:
    """Are 8-bit optimizers installed, with a card for them?"""
    import importlib.util

    return bool(card_memory()) and importlib.util.find_spec("bitsandbytes") is not None


def unusual_resolution(info: CheckpointInfo | None) -> int | None:
    """Pixels that a checkpoint was made for, where they are not its family's: the demo checkpoint's."""
    return world.PICTURE_SIZE if info is not None and info.name == assets.checkpoint_path().name else None


def first_settings(info: CheckpointInfo | None) -> TrainSettings:
    """What a form begins with: the defaults, and the sizes of a checkpoint that was not made for the defaults' 512."""
    family = info.family if info else Family.SD1
    answers = Answers(family=family, resolution=unusual_resolution(info))
    found = recommend(answers).settings
    if found["resolution"] == 512:
        return TrainSettings()
    return TrainSettings.from_mapping({name: found[name] for name in SIZES})


def advise(
    settings: TrainSettings, report: ScanReport | None, known: Around, silenced: Collection[str] = ()
) -> list[Finding]:
    """What the rules say before a run.

    Args:
        settings: as they are.
        report: of the dataset's check; None while no folder is chosen.
        known: checkpoint, card, answers.
        silenced: ids of rules that are not to be heard.
    """
    return findings(facts_of(settings, report, known), silenced)


def facts_of(settings: TrainSettings, report: ScanReport | None, known: Around) -> Facts:
    """Everything that rules look at; what cannot be worked out yet is left empty.

    Raises:
        SettingsError: no such optimizer.
    """
    info = known.checkpoint
    family = Family.SD1 if info is None else info.family
    kind = kind_of(settings.optimizer_type)
    name = "" if info is None else info.name
    facts = Facts(
        settings=settings.to_mapping(), family=family, checkpoint=name,
        knows=knows_by_name(name) or (None if known.answers is None else known.answers.knows),
        adaptive=kind.adaptive, relative=kind.relative(parse_args(settings.optimizer_args)),
        rates=tuple(Rate(group.name, group.learning_rate) for group in groups_of(settings)),
        answers=known.answers, vram=known.vram, course=known.course, same_seed_bakes=known.same_seed_bakes,
    )  # fmt: skip
    return facts if report is None or not report.items else _with_pictures(facts, settings, report, known)


def _with_pictures(facts: Facts, settings: TrainSettings, report: ScanReport, known: Around) -> Facts:
    train = [subset for subset in report.subsets if not subset.regularisation and subset.pictures]
    reg = sum(len(subset.pictures) for subset in report.subsets if subset.regularisation)
    plan = make_plan(settings, report.batches_per_epoch, family=facts.family)
    over, longest = _tokens(train, settings.max_token_length, known.counter)
    return replace(
        facts,
        length=length_of(plan, report),
        concepts=tuple(_concept(subset, known.counter) for subset in train),
        sizes=tuple(item.picture.size for item in report.items if not item.subset.regularisation),
        buckets=report.bucket_counts,
        reg_pictures=reg,
        over_limit=over,
        longest=longest,
    )


def length_of(plan: Plan, report: ScanReport) -> Length:
    """The run in numbers."""
    items = sum(count for _, count in epoch_items(report))
    return Length(plan.steps, plan.epochs, plan.steps_per_epoch, plan.warmup_steps, items, plan.batches_per_epoch)


def _concept(subset: Subset, counter: Counting | None) -> Concept:
    """Tags and the trigger of one folder."""
    comma = subset.options.caption_separator
    captions = [split_tags(first_line(p.caption), comma) for p in subset.pictures if p.has_caption]
    firsts = Counter(tags[0] for tags in captions if tags)
    named = next((tag for tags in captions for tag in tags if _plain(tag) == _plain(subset.name)), "")
    trigger, count = firsts.most_common(1)[0] if firsts else ("", 0)
    if named:  # a folder is named after its trigger, as kohya's are, wherever the tag stands
        trigger, count = named, sum(n for tag, n in firsts.items() if _plain(tag) == _plain(named))
    tags = Counter(_plain(tag) for caption in captions for tag in set(caption))
    return Concept(
        name=subset.name, pictures=len(subset.pictures), repeats=subset.repeats, captioned=len(captions),
        trigger=trigger, trigger_share=count / len(captions) if captions else 0.0,
        trigger_tokens=counter(trigger) if counter and trigger else None, tags=dict(tags),
    )  # fmt: skip


def _plain(tag: str) -> str:
    return tag.replace("_", " ").lower()


def _tokens(subsets: list[Subset], room: int, counter: Counting | None) -> tuple[int, int]:
    """Captions over the limit, and tokens of the longest."""
    if counter is None:
        return 0, 0
    counts = [counter(first_line(p.caption)) for subset in subsets for p in subset.pictures]
    return sum(count > room for count in counts), max(counts, default=0)


def next_bake(settings: TrainSettings, seen: str) -> tuple[Symptom, dict[str, Any]]:
    """What a symptom means, and the settings to change for the next bake; none where only pictures or tags help.

    Args:
        settings: of the bake that shows it.
        seen: the symptom's id.

    Raises:
        SettingsError: there is no such symptom, or no such optimizer.
    """
    symptom = BY_ID.get(seen)
    if symptom is None:
        raise SettingsError(f"'{seen}' is no symptom", remedy=f"one of: {', '.join(BY_ID)}")
    return symptom, symptom.change(settings.to_mapping(), kind_of(settings.optimizer_type).adaptive)


def course_of(status: RunStatus) -> Course:
    """What a run has shown."""
    rates = status.last.learning_rates if status.last else {}
    now = ((status.step, max(rates.values())),) if rates else ()
    quarter = max(1, len(status.bins) // 4)
    apart = len(status.bins) > 1
    return Course(
        averages=tuple((point.step, point.average) for point in status.losses),
        held_out=tuple((point.step, point.loss) for point in status.validations),
        rates=now,
        early=_pooled(status.bins[:quarter]) if apart else {},
        late=_pooled(status.bins[-quarter:]) if apart else {},
        steps=status.steps,
    )


def _pooled(bins: Sequence[LossBins]) -> dict[int, float]:
    """First timestep -> mean loss over several epochs, each item alike."""
    counts = Counter[str]()
    sums: defaultdict[str, float] = defaultdict(float)
    for epoch in bins:
        counts.update(epoch.counts)
        for name, loss in epoch.losses.items():
            sums[name] += loss * epoch.counts[name]
    return {int(name): sums[name] / counts[name] for name in sorted(sums, key=int)}


def silenced(data_dir: Path) -> frozenset[str]:
    """Ids of rules that are not to be heard."""
    try:
        values = json.loads((data_dir / SILENCED).read_text(encoding="utf-8"))
        return frozenset(str(value) for value in values)
    except (OSError, ValueError, TypeError):
        return frozenset()


def silence(data_dir: Path, rule: str, *, heard: bool = False) -> frozenset[str]:
    """Do not hear a rule any more, or hear it again.

    Raises:
        OutputError: it cannot be written down.
    """
    now = silenced(data_dir)
    now = now - {rule} if heard else now | {rule}
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        (data_dir / SILENCED).write_text(json.dumps(sorted(now)), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"it cannot be written down ({error.strerror})", file=data_dir / SILENCED) from error
    return now


def with_changes(settings: TrainSettings, finding: Finding) -> TrainSettings:
    """The settings as a finding's button makes them.

    Raises:
        LoraLabError: they cannot be had so.
    """
    return settings.replace(**finding.fired.changes)


