"""What a person can get wrong with a grid: each case is one sentence with a remedy, and nothing is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.testing.small import host_of, plan_of, write_lora

torch = pytest.importorskip("torch")

from lora_lab.errors import AdapterFileError, HostBusyError, SettingsError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.testing import rows  # noqa: E402
from lora_lab.testing.cells import WHOLE, GridPlan  # noqa: E402
from lora_lab.testing.events import CellMade, GridEstimated, GridEvent, GridTold  # noqa: E402
from lora_lab.testing.grid import run_grid  # noqa: E402
from tests.training.tiny import TinyHost  # noqa: E402

ROWS = rows.of_presets(["OUTALL", "INALL", "ALL0.5"], Family.SD1)


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return host_of(tmp_path)


@pytest.fixture
def lora(host: TinyHost, tmp_path: Path) -> Path:
    return write_lora(tmp_path / "mika.safetensors", host.model)


def told(host: TinyHost, plan: GridPlan) -> list[str]:
    events: list[GridEvent] = []
    run_grid(host, plan, events.append)
    return [event.text for event in events if isinstance(event, GridTold)]


def test_a_lora_of_another_family_is_refused(host: TinyHost, tmp_path: Path) -> None:
    other = host_of(tmp_path, Family.SDXL)
    lora = write_lora(tmp_path / "xl.safetensors", other.model)
    with pytest.raises(AdapterFileError, match="is for SDXL, the loaded checkpoint is SD1 or SD2"):
        run_grid(host, plan_of(lora, ROWS, tmp_path))


def test_a_lora_without_a_unet_part_is_refused(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    text = {name: tensor for name, tensor in files.read(lora).tensors.items() if name.startswith("lora_te")}
    files.write(tmp_path / "te.safetensors", text, {})
    with pytest.raises(AdapterFileError, match="no part for the UNet"):
        run_grid(host, plan_of(tmp_path / "te.safetensors", ROWS, tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("OUTAL", "there is no preset 'OUTAL': did you mean OUTALL"),
        ("1,0,0,0,0,0,0,0,0,0,0,0", "12 block weights, which are SDXL's, do not fit sd1"),
        ("1,0,0,0,0,0,zero,0,0,0,0,0,0,0,0,0,0", "'zero' is no block weight"),
        ("B-LoRA-style", "the preset B-LoRA-style is for sdxl"),
    ],
)
def test_weights_that_cannot_be_read_are_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        rows.of_text(text, Family.SD1)


@pytest.mark.parametrize("text", ["half", "0.5,nan", "", "1,,inf"])
def test_x_must_be_a_number(text: str) -> None:
    with pytest.raises(SettingsError, match="x (is|holds)"):
        rows.numbers(text, "x")


def test_weights_of_another_family_are_refused(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    xl = rows.of_text("B-LoRA-style", Family.SDXL)
    with pytest.raises(SettingsError, match="do not fit sd1"):
        run_grid(host, plan_of(lora, [xl], tmp_path))


def test_a_lora_that_is_replaced_or_deleted_meanwhile(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    """What was read stays in force, and it is said; a file that was not read yet ends the grid with what is done."""
    events: list[GridEvent] = []

    def listen(event: GridEvent) -> None:
        events.append(event)
        if isinstance(event, CellMade) and event.row is None:
            lora.unlink()

    result = run_grid(host, plan_of(lora, ROWS, tmp_path), listen)
    assert all(result.made)
    assert any("was deleted or replaced" in event.text for event in events if isinstance(event, GridTold))
    write_lora(lora, host.model, seed=2)
    second = write_lora(tmp_path / "second.safetensors", host.model, seed=3)
    snapshot = rows.strengths([1.0], loras=[second])

    def lose(event: GridEvent) -> None:
        if isinstance(event, CellMade) and event.row is None:
            second.unlink(missing_ok=True)

    with pytest.raises(AdapterFileError, match="deleted or replaced while the grid ran; 1 of 2 pictures are kept"):
        run_grid(host, plan_of(lora, snapshot, tmp_path), lose)


def test_a_replaced_file_is_not_taken_for_the_old_one(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    one = run_grid(host, plan_of(lora, ROWS[:1], tmp_path)).at(0, 0)
    write_lora(lora, host.model, seed=2)
    two = run_grid(host, plan_of(lora, ROWS[:1], tmp_path)).at(0, 0)
    assert one is not None
    assert two is not None
    assert one.image.tobytes() != two.image.tobytes()


def test_a_checkpoint_changed_in_the_middle_ends_it_and_keeps_what_is_done(
    host: TinyHost, lora: Path, tmp_path: Path
) -> None:
    info = host.model.info

    def listen(event: GridEvent) -> None:
        if isinstance(event, GridEstimated):
            host.model.info = dataclasses.replace(info, identity="tiny|2")

    with pytest.raises(HostBusyError, match="another checkpoint is live; 1 of 4 pictures are kept"):
        run_grid(host, plan_of(lora, ROWS, tmp_path), listen)
    host.model.info = info
    events: list[GridEvent] = []
    result = run_grid(host, plan_of(lora, ROWS, tmp_path), events.append)
    assert result.made[0] is not None
    assert result.made[0].seconds == 0.0


def test_prompts_without_the_trigger_and_equal_seeds_are_told(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    plan = plan_of(lora, ROWS[:1], tmp_path, trigger="zuli", seeds=(7, 7))
    said = told(host, plan)
    assert said == [
        "of 2 seeds 1 differ: the same picture is made once",
        "1 of 1 prompts lack the trigger 'zuli': 'mika, smile'",
    ]
    assert told(host, dataclasses.replace(plan, trigger="mika", seeds=(7,))) == []


def test_an_absurd_grid_says_its_time_first(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    seeds = tuple(range(2500))
    with pytest.raises(SettingsError, match=r"the grid has 9,999 more pictures to make, about \d+\.\d hours"):
        run_grid(host, plan_of(lora, ROWS, tmp_path, seeds=seeds))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": ()}, "no weights"),
        ({"prompts": ()}, "no prompts"),
        ({"seeds": ()}, "no seeds"),
        ({"quick": 1.0}, "shares"),
    ],
)
def test_an_empty_plan_is_refused(
    host: TinyHost, lora: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        run_grid(host, dataclasses.replace(plan_of(lora, [WHOLE], tmp_path), **change))  # type: ignore[arg-type]
