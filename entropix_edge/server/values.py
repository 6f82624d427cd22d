"""A request as what it asks for, checked as far as that needs no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..strategy import preset_names
from .errors import invalid, unsupported
from .schema import ChatRequest, Entropix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..text import Message
    from .schema import ChatMessage, CompletionRequest, Sampling

_ANSWERED_AS_TEXT = ({"type": "text"},)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "logit_bias": ({},),
    "grammar": ("",),
    "json_schema": (),
    "guided_json": (),
    "structured_outputs": (),
    "response_format": _ANSWERED_AS_TEXT,
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
"""What is known and not built, with the values that ask for nothing."""
_IN_MESSAGES: dict[str, tuple[Any, ...]] = {"tool_calls": ([],), "function_call": (), "audio": ()}
_LONGEST_OPTION = 256  # characters
_LONGEST_STOP = 1000
_ALTERNATIVES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages to answer.

    Attributes:
        messages: the turns before the answer.
        begun: a text that the answer begins with and that is not repeated.
    """

    messages: list[Message]
    begun: str = ""


Prompt = Conversation | str | tuple[int, ...]
"""What is to be answered or continued; a text or token ids are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request asks for.

    Attributes:
        prompts: each of them is answered.
        n: replies to each.
        param: the field that the prompts came in.
        model: the name that the client gave.
        stream: whether the answer comes piece by piece.
        include_usage: whether a stream ends with its usage.
        limit: most tokens of a reply; None for the server's own.
        changes: options of the preset.
        preset: its name; None for the server's own.
        sampler: None for the server's own.
        check: None for the server's own.
        seed: None for the server's own.
        stop: None for the server's own.
        logprobs: whether each token's probability is told.
        top_logprobs: and those of how many others.
        extension: what it asks for beyond OpenAI's interface; None where it does not.
        variables: for the chat template.
    """

    prompts: Sequence[Prompt]
    n: int
    param: str
    model: str | None
    stream: bool
    include_usage: bool
    limit: int | None
    changes: dict[str, Any]
    preset: str | None
    sampler: Any
    check: bool | None
    seed: int | None
    stop: tuple[str, ...] | None
    logprobs: bool
    top_logprobs: int
    extension: Entropix | None
    variables: dict[str, Any]

    @property
    def alternatives(self) -> int:
        """How many of the most probable tokens each event must name."""
        extension = self.extension
        if extension is None or not extension.tokens:
            return self.top_logprobs
        wanted = _ALTERNATIVES if extension.alternatives is None else extension.alternatives
        return max(self.top_logprobs, wanted)

    @property
    def length(self) -> int:
        """Characters and tokens of its prompts."""
        return sum(map(_length, self.prompts))

    @property
    def begin_tokens(self) -> tuple[int, ...]:
        """What each reply begins with."""
        return tuple(self.extension.begin_tokens or ()) if self.extension else ()

    @property
    def candidates(self) -> int:
        """How many whole replies are generated to answer with the best; 1 for no choice."""
        return (self.extension.deliberate or 1) if self.extension else 1


def read_chat(request: ChatRequest) -> Ask:
    """A chat as what it asks for.

    Raises:
        ApiError: a value that cannot be, or one that is not supported.
    """
    _check_neutral(request)
    if request.top_logprobs and not request.logprobs:
        raise invalid("top_logprobs is set and logprobs is not true: set both", "top_logprobs")
    if request.max_tokens and request.max_completion_tokens not in (None, request.max_tokens):
        raise invalid("max_tokens and max_completion_tokens differ: give one of them", "max_completion_tokens")
    messages = [_message(message, f"messages[{number}]") for number, message in enumerate(request.messages)]
    begun = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
    conversation = Conversation(messages=messages, begun=begun)
    return _ask(
        request,
        [conversation],
        "messages",
        limit=request.max_completion_tokens or request.max_tokens,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs or 0,
        variables=request.chat_template_kwargs,
    )


def read_completion(request: CompletionRequest) -> Ask:
    """A completion as what it asks for. Errors as for `read_chat`."""
    _check_neutral(request)
    return _ask(
        request,
        _prompts(request.prompt),
        "prompt",
        limit=request.max_tokens,
        logprobs=request.logprobs is not None,
        top_logprobs=request.logprobs or 0,
    )


def _ask(
    request: Sampling,
    prompts: Sequence[Prompt],
    param: str,
    *,
    limit: int | None,
    logprobs: bool,
    top_logprobs: int,
    variables: dict[str, Any] | None = None,
) -> Ask:
    extension = request.entropix
    return Ask(
        prompts=prompts,
        n=request.n or 1,
        param=param,
        model=request.model,
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        limit=limit,
        changes=_filters(request) | _options(extension),
        preset=_preset(extension),
        sampler=extension.sampler if extension else None,
        check=extension.check if extension else None,
        seed=_seed(request.seed),
        stop=_stop(request.stop),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        extension=_checked(extension, request.n or 1),
        variables=variables or {},
    )


# --- what is not built --------------------------------------------------------------------------------


def _check_neutral(request: Sampling) -> None:
    for name in request.__struct_fields__:
        if name in _NEUTRAL and not _is_neutral(getattr(request, name), _NEUTRAL[name]):
            raise unsupported(name, f"{name} is not supported by this server with that value: leave it out")


def _is_neutral(value: object, neutral: tuple[Any, ...]) -> bool:
    return value is None or value in neutral


# --- prompts ------------------------------------------------------------------------------------------


def _message(message: ChatMessage, place: str) -> Message:
    for name, neutral in _IN_MESSAGES.items():
        if not _is_neutral(getattr(message, name), neutral):
            raise unsupported(f"{place}.{name}", f"{place}.{name} is not supported by this server: leave it out")
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": _content(message, f"{place}.content")}


def _content(message: ChatMessage, place: str) -> str:
    content = message.content
    if content is None:
        raise invalid(f"{place} is missing: it must be a text, or a list of text parts", place)
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content):
        where = f"{place}[{number}]"
        if part.type != "text":
            raise unsupported(f"{where}.type", f"{where}.type is {part.type!r}: this server takes text parts only")
        if part.text is None:
            raise invalid(f"{where}.text is missing: a text part must have one", f"{where}.text")
        texts.append(part.text)
    return "\n".join(texts)


def _prompts(prompt: str | list[Any]) -> list[Prompt]:
    """One text, one list of token ids, or a list of either."""
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(each, int) for each in prompt):
        return [tuple(prompt)]
    if all(isinstance(each, str) for each in prompt):
        return list(prompt)
    if all(isinstance(each, list) for each in prompt):
        return [tuple(each) for each in prompt]
    raise invalid(
        "prompt mixes texts and token ids: it must be one text, one list of ids, or a list of either", "prompt"
    )


def _length(prompt: Prompt) -> int:
    if isinstance(prompt, Conversation):
        return len(prompt.begun) + sum(len(message["content"]) for message in prompt.messages)
    return len(prompt)


# --- sampling -----------------------------------------------------------------------------------------


def _filters(request: Sampling) -> dict[str, Any]:
    top_k = 0 if request.top_k == -1 else request.top_k
    given = {"temperature": request.temperature, "top_k": top_k, "top_p": request.top_p, "min_p": request.min_p}
    return {f"sampler.{name}": value for name, value in given.items() if value is not None}


def _options(extension: Entropix | None) -> dict[str, Any]:
    options = dict(extension.options or {}) if extension else {}
    for name, value in options.items():
        place = f"entropix.options.{name[:_LONGEST_OPTION]}"
        if isinstance(value, bool):
            raise invalid(f"{place} is {str(value).lower()}: it must be a number or a text", place)
        if isinstance(value, str) and len(value) > _LONGEST_OPTION:
            raise invalid(f"{place} has {len(value)} characters: it must have at most {_LONGEST_OPTION}", place)
    return options


def _preset(extension: Entropix | None) -> str | None:
    """A name, never a path: the server's files are not the client's."""
    name = extension.preset if extension else None
    if name is not None and name not in preset_names():
        known = ", ".join(preset_names())
        raise invalid(f"entropix.preset is {name!r}: it must be one of {known}", "entropix.preset")
    return name


def _seed(seed: int | None) -> int | None:
    """From 0 to 2⁶⁴ − 1; −1 means a random one, and other negative ones count from the end."""
    if seed is not None and seed >= 2**64:
        raise invalid(f"seed is {seed}: it must be below 2^64", "seed")
    return None if seed in (None, -1) else seed % 2**64


def _stop(stop: str | list[str] | None) -> tuple[str, ...] | None:
    if stop is None:
        return None
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in texts:
        if not 0 < len(text) <= _LONGEST_STOP:
            raise invalid(f"a stop text has {len(text)} characters: it must have 1 to {_LONGEST_STOP}", "stop")
    return texts


def _checked(extension: Entropix | None, n: int) -> Entropix | None:
    """The extension, if its parts go together."""
    if extension is None:
        return None
    if extension.deliberate and (n > 1 or extension.begin_tokens):
        other = "n" if n > 1 else "entropix.begin_tokens"
        raise invalid(f"entropix.deliberate and {other} do not go together: give one of them", "entropix.deliberate")
    if extension.answer and not extension.deliberate:
        raise invalid("entropix.answer needs entropix.deliberate: the replies vote by it", "entropix.answer")
    return extension
