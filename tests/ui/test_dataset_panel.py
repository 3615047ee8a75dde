"""The panel Dataset, its handlers called with what a page would hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lora_lab.dataset.problems import Problem
from lora_lab.errors import DatasetError, OutputError
from lora_lab.ui import dataset_panel, dataset_view, tab
from tests.ui.shown import SMALL, ShowHost, Tab

torch = pytest.importorskip("torch", reason="torch is not installed")


def check(shown: Tab, folder: object, **more: str) -> dict[str, object]:
    """The results of a check by the name of their widget."""
    w = shown.panels.dataset
    changes = dataset_panel.check(shown.dataset(train_data_dir=str(folder), **SMALL | more), w, shown.context)
    names = {getattr(w, name): name for name in ("summary", "subsets", "buckets", "problems", "pictures", "use")}
    return {names[widget]: value for widget, value in changes.items()}


def test_a_good_folder_is_counted_drawn_and_may_be_used(shown: Tab, pictures: Path) -> None:
    found = check(shown, pictures, train_batch_size="4")
    assert "<b>4</b>" in found["summary"]
    assert "steps per epoch, batch 4</span><b>4</b>" in found["summary"], "2 buckets of 6 pictures, 2 batches each"
    assert '<b translate="no">mika</b>' in found["subsets"]
    assert "128 × 128" in found["buckets"]
    assert found["use"]["interactive"] is True
    gallery = found["pictures"]
    assert [name for _, name in gallery["value"]] == ["0.png", "1.png", "2.png", "3.png"]
    assert all(Path(small).is_file() for small, _ in gallery["value"])
    assert "No problems" in found["problems"]


def test_a_folder_in_quotation_marks_is_understood(shown: Tab, pictures: Path) -> None:
    assert "mika" in check(shown, f' "{pictures}" ')["subsets"]


def test_broken_pictures_are_named_with_the_reason_and_the_remedy(shown: Tab, pictures: Path) -> None:
    (pictures / "3_mika" / "not.png").write_bytes(b"no picture")
    whole = pictures / "3_mika" / "half.png"
    Image.effect_noise((128, 128), 80).convert("RGB").save(whole)
    whole.write_bytes(whole.read_bytes()[:2000])
    found = check(shown, pictures)
    assert "not.png" in found["problems"]
    assert "half.png" in found["problems"]
    assert found["problems"].count('"lora-lab-badge">cannot be used</span>') == 2


def test_a_name_cannot_break_out_of_the_page(shown: Tab, tmp_path: Path) -> None:
    folder = tmp_path / "evil" / "2_<script>alert(1)<"
    try:
        folder.mkdir(parents=True)
        Image.new("RGBA", (128, 128)).save(folder / "<img src=x>.png")
    except OSError:
        pytest.skip("this system does not allow < in file names")
    found = check(shown, folder.parent)
    for part in ("subsets", "problems"):
        assert "<script" not in found[part]
        assert "<img" not in found[part]
    assert "&lt;script&gt;" in found["subsets"]


def test_an_empty_folder_is_a_problem_and_may_not_be_used(shown: Tab, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = check(shown, tmp_path / "empty")
    assert "no picture" in found["problems"]
    assert found["use"]["interactive"] is False


@pytest.mark.parametrize("typed", ["", "   ", "there/is/none"])
def test_no_such_folder_is_refused(shown: Tab, typed: str) -> None:
    with pytest.raises(DatasetError):
        check(shown, typed)


def test_a_host_open_to_the_network_refuses_folders_elsewhere(tmp_path: Path, pictures: Path) -> None:
    shown = Tab(ShowHost(tmp_path, roots=(tmp_path / "data",)))
    with pytest.raises(OutputError, match="outside of those allowed"):
        check(shown, pictures)
    with pytest.raises(OutputError, match="outside of those allowed"):
        check(shown, tmp_path / "data" / ".." / "train")


def test_use_for_training_hands_over_folder_sizes_and_a_name(shown: Tab, pictures: Path) -> None:
    values = shown.dataset(train_data_dir=str(pictures), train_batch_size="3", **SMALL)
    changes = tab.send_to_train(values, shown.panels, shown.context)
    train = shown.panels.train.fields.widgets
    assert changes[train["train_data_dir"]] == str(pictures)
    assert changes[train["train_batch_size"]] == "3"
    assert changes[train["resolution"]] == "128"
    assert changes[train["output_name"]] == "mika"
    assert changes[shown.panels.tabs]["selected"] == "train"


def test_use_for_training_leaves_a_name_that_was_typed(shown: Tab, pictures: Path) -> None:
    values = shown.dataset(train_data_dir=str(pictures), **SMALL)
    name = shown.panels.train.fields.widgets["output_name"]
    assert name not in tab.send_to_train(values | {name: "mine"}, shown.panels, shown.context)


def test_the_worst_problems_come_first_and_a_flood_is_cut() -> None:
    found = [Problem(f"/d/{i}.png", "r", f"why {i}", "do it", "note") for i in range(dataset_view.SHOWN)]
    html = dataset_view.problems([*found, Problem("/d/bad.png", "r", "broken", "", "error")], Path("/d"))
    assert html.index("bad.png") < html.index("0.png")
    assert html.count("<li") == dataset_view.SHOWN
    assert "1 more problem" in html
