"""Regularisation pictures and variants on the demo checkpoint, with the standalone host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from lora_lab.dataset.options import DatasetOptions  # noqa: E402
from lora_lab.dataset.scan import ScanReport, scan  # noqa: E402
from lora_lab.errors import DatasetError, Interrupted, OutputError, SettingsError  # noqa: E402
from lora_lab.host.base import Host, PreviewRequest  # noqa: E402
from lora_lab.host.choose import standalone_host  # noqa: E402
from lora_lab.workflow import regularisation, variants  # noqa: E402
from lora_lab.workflow.regularisation import RegularisationSettings, plan  # noqa: E402
from lora_lab.workflow.variants import VariantSettings  # noqa: E402

QUICK = RegularisationSettings(steps=2, batch_size=2, cfg_scale=3.0)
OPTIONS = DatasetOptions(resolution=(64, 64), min_bucket_reso=64, max_bucket_reso=128, bucket_reso_steps=64)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return standalone_host(data_dir=tmp_path_factory.mktemp("data"))


@pytest.fixture
def report(tmp_path: Path) -> ScanReport:
    """Two pictures of one concept: a square one and a wide one."""
    folder = tmp_path / "train" / "3_zuli"
    folder.mkdir(parents=True)
    for name, size, caption in (("a", (64, 64), "zuli, smile, red hair"), ("b", (128, 32), "zuli, grass, hat (red)")):
        Image.new("RGB", size, "orange").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return scan(tmp_path / "train", OPTIONS)


def quiet(stage: str, done: int, total: int) -> None:
    """Nobody listens."""


def test_the_hard_route_mirrors_each_training_picture(report: ScanReport, tmp_path: Path) -> None:
    planned = plan(report, QUICK, tmp_path / "reg")
    assert [(w.path.relative_to(tmp_path / "reg").as_posix(), w.caption, w.size, w.seed) for w in planned.wanted] == [
        ("3_1girl/a.png", "smile, red hair", (64, 64), 420),
        ("3_1girl/b.png", "grass, hat (red)", report.items[1].placement.bucket, 420),
    ]


def test_the_easy_route_balances_an_epoch(report: ScanReport, tmp_path: Path) -> None:
    easy = replace(QUICK, route="easy", count=3, prompt="1girl, smile")
    planned = plan(report, easy, tmp_path)
    assert [w.path.name for w in planned.wanted] == ["easy_00001.png", "easy_00002.png", "easy_00003.png"]
    assert {w.path.parent.name for w in planned.wanted} == {"2_1girl"}  # 2 pictures x 3 repeats, by 3
    assert {w.caption for w in planned.wanted} == {"1girl, smile"}
    assert [w.seed for w in planned.wanted] == [420, 421, 422]


def test_the_random_route_mixes_the_datasets_tags_without_its_trigger(report: ScanReport, tmp_path: Path) -> None:
    planned = plan(report, replace(QUICK, route="random", count=20), tmp_path)
    tags = {tag for w in planned.wanted for tag in w.caption.split(", ")}
    assert tags <= {"smile", "red hair", "grass", "hat (red)", "1girl"}
    assert len({w.caption for w in planned.wanted}) > 2
    assert planned == plan(report, replace(QUICK, route="random", count=20), tmp_path)


def test_two_concepts_get_a_folder_each(tmp_path: Path) -> None:
    for name in ("2_a", "5_b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "train" / name / "x.png")
    planned = plan(scan(tmp_path / "train", OPTIONS), QUICK, tmp_path / "reg")
    assert [w.path.parent.name for w in planned.wanted] == ["2_1girl a", "5_1girl b"]


def test_a_stopped_round_goes_on_and_is_a_regularisation_folder(host: Host, report: ScanReport, tmp_path: Path) -> None:
    planned = plan(report, replace(QUICK, batch_size=1), tmp_path / "reg")

    def stop(stage: str, done: int, total: int) -> None:
        if done == 1:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        regularisation.make_pictures(host, planned, stop)
    assert len(planned.missing) == 1
    first = next(w.path for w in planned.wanted if w.path.is_file())
    before = first.stat().st_mtime_ns
    assert regularisation.make_pictures(host, planned, quiet) == 1
    assert first.stat().st_mtime_ns == before
    assert not planned.missing
    assert regularisation.make_pictures(host, planned, quiet) == 0
    found = scan(tmp_path / "train", OPTIONS, tmp_path / "reg")
    reg = [s for s in found.subsets if s.regularisation]
    assert [(s.repeats, s.name, len(s.pictures)) for s in reg] == [(3, "1girl", 2)]
    assert [p.caption.strip() for p in reg[0].pictures] == ["smile, red hair", "grass, hat (red)"]
    with Image.open(first) as picture:
        assert "Sampler: DDIM" in picture.text["parameters"]
        assert "Seed: 420" in picture.text["parameters"]
    assert not list((tmp_path / "reg").rglob("*.part"))


@pytest.mark.parametrize("wrong", [{"class_name": "a/b"}, {"class_name": " "}, {"steps": 0}, {"count": 0}])
def test_wrong_settings_are_refused(report: ScanReport, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        plan(report, replace(QUICK, route="easy", **wrong), tmp_path)


def test_no_training_pictures_and_a_folder_that_is_a_file(report: ScanReport, host: Host, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no training picture"):
        plan(replace(report, items=()), QUICK, tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        regularisation.make_pictures(host, plan(report, QUICK, tmp_path / "file"), quiet)


def test_variants_are_kept_with_their_caption_or_dropped(host: Host, report: ScanReport) -> None:
    picture = report.items[0].picture
    before = picture.path.read_bytes()
    settings = VariantSettings(count=3, steps=4, batch_size=2)
    made = variants.make_variants(host, picture, OPTIONS, settings, quiet)
    assert [path.name for path in made] == [f"a_generated_{n}.png" for n in (1, 2, 3)]
    assert len({path.read_bytes() for path in made}) == 3
    folder = picture.path.parent
    kept = variants.keep(made[:1], folder)
    variants.drop(made[1:])
    assert not any(path.exists() for path in made)
    assert kept == [folder / "a_generated_1.png"]
    assert variants.is_generated(kept[0])
    assert kept[0].with_suffix(".txt").read_text(encoding="utf-8").strip() == "zuli, smile, red hair"
    assert picture.path.read_bytes() == before
    again = variants.make_variants(host, picture, OPTIONS, replace(settings, count=1), quiet)
    assert variants.keep(again, folder)[0].name == "a_generated_1_2.png"
    with pytest.raises(DatasetError, match="gone"):
        variants.keep(made[1:2], folder)


def test_little_denoise_changes_little(host: Host) -> None:
    """img2img between the picture as the VAE gives it back and a picture of its own, for each sampler."""
    from lora_lab.demo import drawing, world

    start = drawing.draw(world.Attributes(), 1, 64)
    for sampler in ("DDIM", "Euler", "Euler a", "DPM++ 2M", "UniPC"):
        found = []
        for denoise in (0.1, 1.0):
            request = PreviewRequest(
                ("1girl",), (3,), width=64, height=64, steps=10, cfg_scale=3.0, sampler=sampler, init_images=(start,),
                denoise=denoise,
            )  # fmt: skip
            with host.lease("pictures") as model:
                image = model.generate(request).images[0]
            found.append(sum(abs(a - b) for a, b in zip(image.tobytes(), start.tobytes(), strict=True)) / 64 / 64 / 3)
        assert found[0] < 40, sampler
        assert found[0] < 0.7 * found[1], sampler
    for wrong in ({"denoise": 0.0}, {"init_images": (start, start)}, {"width": 128}):
        with host.lease("pictures") as model, pytest.raises(SettingsError):
            model.generate(replace(request, **wrong))
