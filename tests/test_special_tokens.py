"""BOS and EOS that the vocabulary does not have: llama.cpp loads such files, with other tokens in their place."""

from __future__ import annotations

import logging
from pathlib import Path

import damaged
import pytest
import tiny_gguf

from entropix_edge import Engine, EngineConfig, GenerationConfig
from entropix_edge.llama import Model, read_header

PAST_END = tiny_gguf.N_VOCAB
IN_GPT2 = 11  # what llama.cpp takes for both where a gpt2 vocabulary names none: here a printable character


@pytest.mark.parametrize("token", [PAST_END, 2**32 - 1])
@pytest.mark.parametrize("adds", [False, True])
def test_a_token_outside_of_the_vocabulary_is_absent(
    token: int, adds: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_gguf.write_llama(tmp_path / "odd.gguf", bos=token, eos=token, adds_bos=adds)
    assert read_header(path).absent_tokens == (("bos", token), ("eos", token))
    with caplog.at_level(logging.WARNING, "entropix_edge"), Model(path) as model:
        vocabulary = model.vocabulary
        assert (vocabulary.bos, vocabulary.eos, vocabulary.adds_bos) == ("", "", False)
        assert not vocabulary.is_end(IN_GPT2)
        assert vocabulary.is_end(tiny_gguf.TOKENS.index("<|im_end|>"))  # by its name
    said = "the file's {} token is {}, which its vocabulary does not have: there is none then"
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [said.format(name, token) for name in ("bos", "eos")]


def test_a_reply_goes_past_what_llama_cpp_takes_for_the_end(tmp_path: Path) -> None:
    path = tiny_gguf.write_llama(tmp_path / "odd.gguf", bos=PAST_END, eos=PAST_END, adds_bos=True)
    with Engine.open(path, EngineConfig(threads=1)) as engine:
        assert engine.tokenize_prompt("t", raw=True) == [tiny_gguf.TOKENS.index("t")]
        assert engine.generate("hello", GenerationConfig(seed=1, n_predict=8)).events


def test_sound_files_have_no_absent_token(tiny_model: Path, tmp_path: Path) -> None:
    assert read_header(tiny_model).absent_tokens == ()
    assert read_header(damaged.write_good(tmp_path / "good.gguf")).absent_tokens == ()
