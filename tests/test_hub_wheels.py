"""Catalogue models out of wheels, through the true pip, from a folder of wheels."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from entropix_edge.errors import DownloadError, ModelFileError
from entropix_edge.hub import CatalogueModel, installed, remove, resolve
from entropix_edge.hub.wheels import Part

FIRST, SECOND = os.urandom(3000), os.urandom(500)
CONTENT = FIRST + SECOND


def make_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def entry(**changes: object) -> CatalogueModel:
    fields: dict[str, object] = {
        "alias": "tiny",
        "description": "a tiny model",
        "licence": "MIT",
        "file": "tiny.gguf",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "parts": (Part("tinypart1==1.0", "tinypart1/a.part0"), Part("tinypart2==1.0", "tinypart2/a.part1")),
    }
    return CatalogueModel(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a folder of wheels for an index, and no checkout."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "tinypart1", {"tinypart1/a.part0": FIRST})
    make_wheel(wheels, "tinypart2", {"tinypart2/a.part1": SECOND})
    home = tmp_path / "home"
    for name, value in {
        "ENTROPIX_EDGE_HOME": home,
        "HF_HOME": tmp_path / "hf",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("entropix_edge.hub.paths.checkout_models", lambda: None)
    offer(monkeypatch, entry())
    return home


def offer(monkeypatch: pytest.MonkeyPatch, model: CatalogueModel) -> None:
    for module in ("names", "catalogue"):
        monkeypatch.setattr(f"entropix_edge.hub.{module}.catalogue_models", lambda: {model.alias: model})


def test_a_model_is_joined_from_its_wheels(home: Path) -> None:
    said: list[str] = []
    path = resolve("Tiny", progress=lambda description, done, total: said.append(f"{description} {done}/{total}"))
    assert path == home / "models" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert said[0] == "fetching tiny.gguf 0/3500"
    assert said[-1] == "fetching tiny.gguf 3500/3500"
    assert os.listdir(home / "models") == ["tiny.gguf"]

    # The second use needs neither the wheels nor a new checksum.
    said.clear()
    assert resolve("tiny", offline=True, progress=lambda *report: said.append(str(report))) == path
    assert said == []
    assert [(model.name, model.path, model.size) for model in installed()] == [("tiny", path, 3500)]

    # Damage is seen, and mended where the network may be used.
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelFileError, match="is damaged"):
        resolve("tiny", offline=True)
    assert resolve("tiny").read_bytes() == CONTENT

    assert remove("tiny") == 3500
    assert installed() == []
    with pytest.raises(DownloadError, match="tiny is not on this machine"):
        resolve("tiny", offline=True)


def test_a_missing_package_is_one_line_of_pip(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, entry(parts=(Part("no-such-package==1.0", "x"),)))
    with pytest.raises(DownloadError, match=r"No matching distribution found for no-such-package==1\.0") as error:
        resolve("tiny")
    assert "\n" not in str(error.value)
    assert os.listdir(home / "models") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "is not what was meant"),
        ({"parts": (Part("tinypart1==1.0", "tinypart1/other"),)}, "holds no tinypart1/other"),
    ],
)
def test_what_is_not_what_was_meant_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    offer(monkeypatch, entry(**changes))
    with pytest.raises(DownloadError, match=message):
        resolve("tiny")
    assert os.listdir(home / "models") == []


def test_an_interrupt_leaves_nothing(home: Path) -> None:
    def interrupt(description: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("tiny", progress=interrupt)
    assert os.listdir(home / "models") == []


def test_a_folder_that_cannot_be_made_is_said(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(DownloadError, match="cannot store tiny"):
        resolve("tiny")


def test_without_pip_uv_is_asked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DownloadError, match="neither pip nor uv"):
        resolve("tiny")

    # Installs a wheel as uv does: unpacks it into --target.
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, zipfile\n"
        "assert sys.argv[1:3] == ['pip', 'install'] and '--no-deps' in sys.argv\n"
        "wheel = sys.argv[-1].replace('==', '-') + '-py3-none-any.whl'\n"
        "target = sys.argv[sys.argv.index('--target') + 1]\n"
        "zipfile.ZipFile(os.path.join(os.environ['PIP_FIND_LINKS'], wheel)).extractall(target)\n"
    )
    uv.chmod(0o755)
    assert resolve("tiny").read_bytes() == CONTENT


def test_a_damaged_wheel(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "wheels" / "tinypart2-1.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[60] ^= 0xFF
    wheel.write_bytes(content)
    with pytest.raises(DownloadError, match=r"tinypart2==1\.0"):
        resolve("tiny")
    shutil.rmtree(tmp_path / "wheels")
    with pytest.raises(DownloadError, match="tinypart1"):
        resolve("tiny")
    assert os.listdir(home / "models") == []
