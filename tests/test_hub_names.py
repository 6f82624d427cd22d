"""What a model's name means, and which file of a repository is meant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from entropix_edge.cli import run
from entropix_edge.errors import DownloadError, ModelFileError, ModelNotFoundError
from entropix_edge.hub import CatalogueModel, aliases, catalogue_models, known_models, resolve
from entropix_edge.hub.names import HubModel, parse
from entropix_edge.hub.selection import choose, label


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ENTROPIX_EDGE_HOME", str(tmp_path / "home"))


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("user/repo", HubModel("user/repo")),
        ("user/repo:Q8_0", HubModel("user/repo", quant="Q8_0")),
        ("user/repo:latest", HubModel("user/repo")),
        ("user/repo/file.gguf", HubModel("user/repo", file="file.gguf")),
        ("user/repo/sub/file.gguf", HubModel("user/repo", file="sub/file.gguf")),
        ("hf.co/user/Repo-GGUF:q4_k_m", HubModel("user/Repo-GGUF", quant="q4_k_m")),
        ("https://huggingface.co/user/repo/", HubModel("user/repo")),
        ("https://huggingface.co/u/r/blob/main/a.gguf?download=true", HubModel("u/r", file="a.gguf")),
        ("https://huggingface.co/u/r/tree/main", HubModel("u/r")),
        ("someone/model-iMat.GGUF", HubModel("someone/model-iMat.GGUF")),
    ],
)
def test_names_on_the_hub(name: str, meant: HubModel) -> None:
    assert parse(name) == meant


@pytest.mark.parametrize("name", ["smollm2-135m", "SmolLM2-135M", " gemma3-270m "])
def test_aliases_in_any_case(name: str) -> None:
    found = parse(name)
    assert isinstance(found, CatalogueModel)
    assert found.alias == name.strip().lower()


@pytest.mark.parametrize(
    "name",
    ["./missing.gguf", "../x", "/no/such/file", "~/missing.gguf", "models/missing.gguf", "here/sub/x.gguf"],
)
def test_missing_paths_are_named(name: str) -> None:
    Path("here/sub").mkdir(parents=True)
    with pytest.raises(ModelNotFoundError, match=r"no such file: .*(missing\.gguf|x|file|x\.gguf)$"):
        resolve(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "nonsense",
        "missing.gguf",
        "a b/c",
        "user/repo:",
        "user/repo:q 4",
        "a/b/readme.md",
        "a/b/../c.gguf",
    ],
)
def test_names_that_mean_nothing_list_what_would_be_right(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="smollm2-135m, gemma3-270m"):
        resolve(name)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(ModelNotFoundError, match=r"did you mean smollm2-135m\?"):
        resolve("smolm-135m")


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0", "./nul\0byte.gguf", "~nobody-of-that-name/x.gguf"])
def test_names_no_file_can_have(name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        resolve(name)


def test_existing_files_and_directories(tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF")
    assert resolve(str(file)) == file
    assert resolve("own.gguf") == Path("own.gguf")
    assert resolve("~/own.gguf") == file
    with pytest.raises(ModelFileError, match=r"is a directory: give the \.gguf file inside"):
        resolve(str(tmp_path))


def test_a_folder_named_as_an_alias_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "smollm2-135m").mkdir()
    assert isinstance(parse("smollm2-135m"), CatalogueModel)


def test_the_catalogue_is_sound() -> None:
    assert aliases() == ["smollm2-135m", "gemma3-270m"]
    for alias, model in catalogue_models().items():
        assert alias == alias.lower() == model.alias
        assert len(model.sha256) == 64
        assert model.size > 0
        assert all("==" in part.wheel for part in model.parts)


# --- files of a repository ----------------------------------------------------------------------

FILES = [
    "README.md",
    "imatrix.gguf",
    "mmproj-model-Q4_K_M.gguf",
    "model-IQ4_XS.gguf",
    "model-Q4_K.gguf",
    "model-Q4_K_M.gguf",
    "model-UD-Q2_K_XL.gguf",
    "model-q8_0.gguf",
    "model.Q5_0.gguf",
    "model_F16.gguf",
    "sub/model-Q3_K_S.gguf",
]


@pytest.mark.parametrize(
    ("quant", "file"),
    [
        (None, "model-Q4_K_M.gguf"),
        ("q4_k_m", "model-Q4_K_M.gguf"),
        ("Q4_K", "model-Q4_K.gguf"),
        ("Q8_0", "model-q8_0.gguf"),
        ("Q5_0", "model.Q5_0.gguf"),
        ("f16", "model_F16.gguf"),
        ("IQ4_XS", "model-IQ4_XS.gguf"),
        ("Q2_K_XL", "model-UD-Q2_K_XL.gguf"),
        ("UD-Q2_K_XL", "model-UD-Q2_K_XL.gguf"),
        ("Q3_K_S", "sub/model-Q3_K_S.gguf"),
    ],
)
def test_quantisations_are_whole_labels(quant: str | None, file: str) -> None:
    assert choose(FILES, HubModel("u/r", quant=quant)) == [file]


@pytest.mark.parametrize("quant", ["Q4", "K_M", "Q8", "Q4_K_S", "0", "mmproj"])
def test_what_is_not_a_whole_label_is_refused_with_a_list(quant: str) -> None:
    with pytest.raises(ModelNotFoundError, match=rf"no quantisation {quant}: it has .*Q4_K_M"):
        choose(FILES, HubModel("u/r", quant=quant))


def test_without_the_default_the_first_by_name() -> None:
    assert choose(["b-Q8_0.gguf", "a-Q5_0.gguf", "A/c.gguf"], HubModel("u/r")) == ["a-Q5_0.gguf"]


def test_a_model_made_with_an_importance_matrix_is_a_model() -> None:
    assert choose(["x.imatrix.gguf", "x-imatrix-Q4_0.gguf"], HubModel("u/r")) == ["x-imatrix-Q4_0.gguf"]


def test_explicit_files() -> None:
    assert choose(FILES, HubModel("u/r", file="sub/model-Q3_K_S.gguf")) == ["sub/model-Q3_K_S.gguf"]
    with pytest.raises(ModelNotFoundError, match=r"no file other\.gguf: it has .*Q4_K_M"):
        choose(FILES, HubModel("u/r", file="other.gguf"))


def test_no_gguf_file() -> None:
    with pytest.raises(ModelNotFoundError, match="has no GGUF file"):
        choose(["model.safetensors", "mmproj.gguf"], HubModel("u/r"))


def test_split_models_come_with_all_their_parts() -> None:
    parts = [f"q/m-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert choose(reversed(parts), HubModel("u/r")) == parts
    assert choose(parts, HubModel("u/r", file=parts[1])) == parts
    with pytest.raises(DownloadError, match=r"one of 3 parts, of which q/m-Q4_K_M-00002-of-00003\.gguf is missing"):
        choose([parts[0], parts[2]], HubModel("u/r"))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("m-Q4_K_M.gguf", "Q4_K_M"),
        ("Q8_0/m.gguf", "Q8_0"),
        ("m.gguf", None),
        ("Qwen2.5-0.5b-q4_0.gguf", "Q4_0"),
    ],
)
def test_labels(file: str, expected: str | None) -> None:
    assert label(file) == expected


def test_well_known_models_have_short_names() -> None:
    assert len(known_models()) >= 10
    assert not known_models().keys() & catalogue_models().keys()
    for alias, known in known_models().items():
        assert parse(alias.upper()) == HubModel(known.repository, file=known.file)
        assert parse(f"{known.repository}/{known.file}") == HubModel(known.repository, file=known.file)
        assert known.about > 1e8


def test_the_catalogue_says_what_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("entropix_edge.llama.available_memory", lambda: 10**9)
    assert run(["ls", "--all", "--json"]) == 0
    records = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert len(records) >= 12
    assert records["smollm2-135m"]["verified"]
    assert records["smollm2-135m"]["fits"]
    assert records["gemma3-270m"]["kind"] == "base"
    assert not records["qwen3-4b"]["fits"]
    assert not records["qwen3-4b"]["verified"]
    assert run(["ls", "--all"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"^qwen2.5-0.5b +chat +~321.1 MB +yes +a board with 4 GB +Apache-2.0 +Qwen/Qwen2.5", out, re.MULTILINE
    )
