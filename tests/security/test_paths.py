"""Paths of a person elsewhere, on a webui that is open to a network: none leads out of the allowed folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from lora_lab.errors import LoraLabError, OutputError, SettingsError  # noqa: E402
from lora_lab.host.base import HostPaths  # noqa: E402
from lora_lab.training import prepare  # noqa: E402
from lora_lab.training.checks.output import check_name  # noqa: E402
from lora_lab.training.prepare import check_allowed, check_start  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402
from tests.ui.shown import ShowHost  # noqa: E402


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder, with a link that leads out of it, beside one that is not allowed."""
    root = tmp_path / "allowed"
    (root / "inside").mkdir(parents=True)
    (tmp_path / "allowed_not").mkdir()
    (tmp_path / "allowed_not" / "a.png").write_bytes(b"")
    if sys.platform != "win32":
        (root / "link").symlink_to(tmp_path / "allowed_not", target_is_directory=True)
        (root / "file.toml").symlink_to(tmp_path / "allowed_not" / "a.png")
    return root


def paths_of(root: Path) -> HostPaths:
    return HostPaths(root / "loras", root / "data", (root,))


OUT = (
    "..", "../allowed_not", "inside/../../allowed_not", "link", "link/a.png", "file.toml", "link/../../allowed_not",
    "./inside/./../..",
)  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("way", OUT)
def test_ways_out(root: Path, way: str) -> None:
    with pytest.raises(OutputError, match="outside of those allowed"):
        check_allowed(f"{root}/{way}", paths_of(root))


def test_what_is_allowed(root: Path) -> None:
    for good in (str(root), f"{root}/inside", f"{root}/inside/../inside/new", ""):
        check_allowed(good, paths_of(root))
    check_allowed("/anything", HostPaths(root, root))  # a webui for its own machine alone


ELSEWHERE = ("~", "~root", "/", "/etc/passwd", "relative", "\\\\nas\\x", "//nas/x", "a\0b", "C:\\x")


@pytest.mark.parametrize("typed", ELSEWHERE)
def test_other_places(root: Path, typed: str) -> None:
    with pytest.raises(OutputError):
        check_allowed(typed, paths_of(root))


def test_a_home_folder_within_an_allowed_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/x` is below the working folder when it is only looked at, and elsewhere once it is expanded."""
    monkeypatch.chdir(root)
    with pytest.raises(OutputError):
        check_allowed("~/x", paths_of(root))


@settings(max_examples=200)
@given(st.text(alphabet="./\\~abC:\0 link", max_size=30))
def test_whatever_is_typed_stays_below(tmp_path_factory: pytest.TempPathFactory, typed: str) -> None:
    root = Path(tmp_path_factory.getbasetemp()) / "typed"
    root.mkdir(exist_ok=True)
    try:
        check_allowed(f"{root}/{typed}", paths_of(root))
    except OutputError:
        return
    assert Path(os.path.realpath(f"{root}/{typed}")).is_relative_to(os.path.realpath(root))


NO_NAMES = (
    "CON", "nul", "com1.x", "LPT9", "a/b", "a\\b", "..", "a:stream", "C:x", "a\0b", "a\n", ".", " a", "a.", "<x>",
)  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_more_than_a_name(name: str) -> None:
    with pytest.raises(SettingsError):
        check_name(name)


@pytest.mark.parametrize("path", ["NUL", "inside/con.txt", "a.png:stream", "\\\\?\\C:\\x", "\\\\.\\PhysicalDrive0"])
def test_device_names_of_windows(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_lab.training.prepare.sys.platform", "win32")
    assert prepare._is_device(path)
    assert not prepare._is_device("C:\\pictures\\mika\\a.b.png")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize(
    "name",
    [
        "train_data_dir", "reg_data_dir", "validation_data_dir", "conditioning_data_dir", "output_dir", "logging_dir",
        "dataset_config", "in_json", "network_weights", "base_weights", "preset",
    ],
)  # fmt: skip
def test_every_setting_that_is_a_path(root: Path, name: str) -> None:
    (root / "inside" / "1_x").mkdir()
    host = ShowHost(root, (root,))
    outside = str(root.parent / "allowed_not" / "a.png")
    values: dict[str, Any] = {"train_data_dir": str(root / "inside"), "output_name": "x"}
    if name == "conditioning_data_dir":
        values["masked_loss"] = True
    wanted = TrainSettings.from_mapping({**values, name: [outside] if name == "base_weights" else outside})
    with pytest.raises(LoraLabError, match="outside of those allowed"):
        check_start(wanted, host)


def test_a_metadata_file_that_names_pictures_elsewhere(root: Path) -> None:
    file = root / "inside" / "meta.json"
    for key in (str(root.parent / "allowed_not" / "a.png"), "../../allowed_not/a"):
        file.write_text(f'{{"{key}": {{"caption": "x"}}}}')
        host = ShowHost(root, (root,))
        values = {"in_json": str(file), "train_data_dir": str(root / "inside"), "output_name": "x"}
        with pytest.raises(OutputError, match="outside of those allowed"):
            check_start(TrainSettings.from_mapping(values), host)
