import os
import subprocess
import sys
from pathlib import Path

import damaged
import pytest

from entropix_edge.errors import ModelFileError, ModelNotFoundError
from entropix_edge.llama.header import read_header


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damaged.write_good(tmp_path_factory.mktemp("header") / "good.gguf")


@pytest.fixture(scope="module")
def files(good: Path) -> dict[str, Path]:
    return damaged.damaged_files(good.parent, good)


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_header(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_a_sound_file_is_described(good: Path) -> None:
    header = read_header(good)
    assert (header.architecture, header.name, header.licence) == ("llama", "tiny", "mit")
    assert (header.n_layers, header.n_embd, header.n_heads, header.n_heads_kv) == (2, 64, 4, 2)
    assert (header.context_length, header.vocabulary_size) == (512, len(damaged.TOKENS))
    assert (header.tokenizer_model, header.tokenizer_pre) == ("llama", None)
    assert header.chat_template == "{{ messages[0].content }}"
    assert (header.quantisation, header.tensor_types) == ("F32", {"f32": 21})
    assert header.parameters * 4 < header.file_size == good.stat().st_size
    assert (header.vocabulary_only, header.embedding_only, header.is_split) == (False, False, False)


def test_a_file_without_weights_is_a_vocabulary(tmp_path: Path) -> None:
    header = read_header(damaged.write_good(tmp_path / "vocabulary.gguf", with_weights=False))
    assert header.vocabulary_only
    assert header.n_tensors == header.parameters == 0
    assert header.vocabulary_size == len(damaged.TOKENS)


def test_what_is_absent_is_none(tmp_path: Path) -> None:
    header = read_header(damaged.write_good(tmp_path / "bare.gguf", with_weights=False, with_sizes=False))
    assert header.n_layers is header.n_heads is header.n_heads_kv is header.n_embd is header.context_length is None


def test_every_damaged_file_is_refused(files: dict[str, Path]) -> None:
    messages = {name: refusal(path) for name, path in files.items()}
    assert "is 3; expected 2, the blocks that the file has" in messages["llama.block_count 3"]
    assert "big-endian" in messages["big-endian"]
    assert "the last byte of tensor" in messages["cut by a byte"]
    assert "299; expected all 300" in messages["two tokens alike"]


@pytest.mark.parametrize(
    ("kind", "architecture", "said"),
    [
        ("adapter", "llama", "is a LoRA adapter, not a model; expected the model that it was made for"),
        ("imatrix", "", "is an importance matrix, not a model; expected the model that was quantised with it"),
        ("mmproj", "clip", "is a multimodal projector, not a model; expected the language model that it belongs to"),
        (None, "clip", "is a multimodal projector, not a model; expected the language model that it belongs to"),
    ],
)
def test_what_goes_with_a_model_is_named(kind: str | None, architecture: str, said: str, tmp_path: Path) -> None:
    path = damaged.write_other(tmp_path / "other.gguf", kind, architecture)
    assert refusal(path) == f"{path}: {said}"
    path = damaged.write_other(tmp_path / "with_tokens.gguf", kind, architecture, tokenizer=True)
    assert refusal(path) == f"{path}: {said}"


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"absent\.gguf: no such file"):
        read_header(tmp_path / "absent.gguf")
    with pytest.raises(ModelFileError, match="is a directory"):
        read_header(tmp_path)
    with pytest.raises(ModelFileError, match="a device"):
        read_header(Path(os.devnull))
    with pytest.raises(ModelFileError, match="null"):
        read_header(Path("a\0b"))


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "is a pipe" in refusal(tmp_path / "pipe.gguf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = damaged.write_good(tmp_path / "locked.gguf")
    path.chmod(0)
    assert "cannot be read" in refusal(path)


def test_a_message_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "two\nlines").write_bytes(b"x" * 100)
    with pytest.raises(ModelFileError) as caught:
        read_header(tmp_path / "two\nlines")
    assert "\n" not in str(caught.value)


def test_what_is_accepted_does_not_kill_llama_cpp(good: Path) -> None:
    count = 300
    program = [sys.executable, damaged.__file__, str(good), "440", "0", str(count)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(program, capture_output=True, text=True, errors="replace", env=environment, check=False)
    last = result.stdout.splitlines()[-1]
    assert result.returncode == 0, f"died of: {last}\n{result.stderr[-2000:]}"
    outcomes = [line.rsplit(" ", 1)[1] for line in result.stdout.splitlines()]
    assert len(outcomes) == count
    assert {"refused", "used"} <= set(outcomes) <= {"refused", "used", "rejected"}
