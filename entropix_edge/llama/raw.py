"""What our loop is measured against: llama.cpp alone, and llama-cpp-python's own completion."""

from __future__ import annotations

import contextlib
import ctypes
import time
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .bindings import high_level, llama
from .devices import model_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ..types import Logits, SamplerSettings
    from .context import Context

# A process that does no more than it must to say one token: model, cells, threads, flash attention, repacking, text.
RAW_PROCESS = """
import ctypes, os, sys, time
import llama_cpp.llama_cpp as llama
import numpy as np
path, n_ctx, threads, flash, repack, prompt = sys.argv[1:]
quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
llama.llama_backend_init()
params = llama.llama_model_default_params()
params.use_extra_bufts = bool(int(repack))
model = llama.llama_model_load_from_file(os.fsencode(path), params)
params = llama.llama_context_default_params()
params.n_ctx, params.n_threads, params.n_threads_batch = int(n_ctx), int(threads), int(threads)
params.flash_attn_type = int(flash)
context = llama.llama_init_from_model(model, params)
vocabulary = llama.llama_model_get_vocab(model)
text = prompt.encode()
tokens = (llama.llama_token * (len(text) + 2))()
count = llama.llama_tokenize(vocabulary, text, len(text), tokens, len(tokens), True, True)
assert llama.llama_decode(context, llama.llama_batch_get_one(tokens, count)) == 0
row = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (llama.llama_vocab_n_tokens(vocabulary),))
print(int(row.argmax()), flush=True)
time.sleep(60)
"""


class RawLoop:
    """`llama_decode` and an argmax, and nothing else, in a context of its own.

    Args:
        context: nobody else decodes in it; what it holds is dropped.
        check: called before each decode of a prompt's part, which may take seconds.

    Attributes:
        context: as given.
        logits: the newest row, float32, shape (n_vocab,): valid until the next step.
        decode_seconds: spent in llama.cpp so far.
    """

    logits: Logits

    def __init__(self, context: Context, check: Callable[[], None] = lambda: None) -> None:
        self.context = context
        self.decode_seconds = 0.0
        self._check = check
        self._handle = context.handle
        self._n_vocab = context.model.n_vocab
        self._one = (llama.llama_token * 1)()
        self._prompt: Sequence[int] = ()
        context.truncate(0)

    def start(self, prompt: Sequence[int]) -> None:
        """Decode a prompt, but for what the one before had in common with it: that is in the cache still."""
        alike = (number for number, pair in enumerate(zip(self._prompt, prompt, strict=False)) if pair[0] != pair[1])
        held = min(next(alike, len(self._prompt)), len(prompt) - 1)
        self._prompt = ()
        if not self.context.truncate(0, held):
            held = 0
            self.context.truncate(0)
        for start in range(held, len(prompt), self.context.n_batch):
            self._check()
            chunk = prompt[start : start + self.context.n_batch]
            self._decode((llama.llama_token * len(chunk))(*chunk), len(chunk))
        self._prompt = prompt

    def resume(self, prompt: Sequence[int]) -> None:
        """The context holds this prompt: it was loaded."""
        self._prompt = prompt

    def step(self) -> None:
        """Choose one token and decode it."""
        self._one[0] = int(self.logits.argmax())
        self._decode(self._one, 1)

    def _decode(self, tokens: Any, count: int) -> None:
        batch = llama.llama_batch_get_one(tokens, count)
        start = time.perf_counter()
        code = llama.llama_decode(self._handle, batch)
        assert code == 0, f"llama_decode: {code}"
        pointer = llama.llama_get_logits_ith(self._handle, -1)  # waits for a device
        self.decode_seconds += time.perf_counter() - start
        row: Any = (ctypes.c_float * self._n_vocab).from_address(ctypes.addressof(pointer.contents))
        self.logits = np.frombuffer(row, np.float32)


class Completion:
    """`llama_cpp.Llama.create_completion`: what a user of llama-cpp-python would call. A context manager."""

    def __init__(self, path: Path, *, n_ctx: int, threads: int, gpu_layers: int, flash_attention: bool) -> None:
        with _our_default_params():
            self._llama = high_level().Llama(
                str(path),
                n_ctx=n_ctx,
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=gpu_layers,
                flash_attn=flash_attention,
                verbose=False,
            )

    def run(self, prompt: Sequence[int], count: int, settings: SamplerSettings, seed: int) -> int:
        """Answer a prompt; how many tokens came."""
        answer: Any = self._llama.create_completion(
            list(prompt),
            max_tokens=count,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            min_p=settings.min_p,
            repeat_penalty=1.0,
            seed=seed,
        )
        return int(answer["usage"]["completion_tokens"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._llama.close()


@contextlib.contextmanager
def _our_default_params() -> Iterator[None]:
    """Let `Llama`, which has no argument for it, lay out weights as we do: else it might crash where we do not."""
    theirs, ours = llama.llama_model_default_params, model_params()
    llama.llama_model_default_params = lambda: ours
    try:
        yield
    finally:
        llama.llama_model_default_params = theirs
