"""OpenAI's JSON as types: what requests may hold, and what is answered. Null is the same as absent.

Fields that nobody here knows are left out, as OpenAI's own servers do. Those that are known and not built are typed as
anything, so that their neutral values pass: `values` says which these are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..config import MOST_ALTERNATIVES, MOST_CANDIDATES, SamplerName

Count = Annotated[int, Meta(ge=0, le=MOST_ALTERNATIVES)]
Positive = Annotated[int, Meta(ge=1)]
Token = Annotated[int, Meta(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Meta(min_length=1)]
Vote = Literal["last-number", "choice", "exact", "code"]
Unbuilt = Any


# --- requests -----------------------------------------------------------------------------------------


class ContentPart(Struct):
    """A part of what a message says: text."""

    type: str
    text: str | None = None


class ChatMessage(Struct):
    """One turn of a conversation; `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart] | None = None
    tool_calls: Unbuilt = None
    function_call: Unbuilt = None
    audio: Unbuilt = None


class StreamOptions(Struct):
    """What a stream carries beside the text."""

    include_usage: bool | None = None


class Entropix(Struct):
    """What OpenAI's interface has no words for. With it, the answer has the same field on every choice.

    Attributes:
        tokens: send a record of every token, in the form of a trace.
        branches: send a record of what else happened: branches, rejected draws, rewinds, fallbacks, candidates.
        alternatives: how many of the most probable tokens a token's record names.
        attention: let a token's record hold the attention's metrics.
        preset: the table, by the name of one that ships with the program.
        options: single thresholds and coefficients of it.
        sampler: what acts.
        check: whether numbers after `=` are checked, whatever acts.
        deliberate: generate up to so many whole replies and answer with the best.
        answer: by which these vote: `last-number`, `choice`, `exact` or `code`.
        begin_tokens: token ids that the reply begins with; their text is a part of it.
    """

    tokens: bool | None = None
    branches: bool | None = None
    alternatives: Count | None = None
    attention: bool | None = None
    preset: str | None = None
    options: dict[str, bool | int | float | str] | None = None
    sampler: SamplerName | None = None
    check: bool | None = None
    deliberate: Annotated[int, Meta(ge=2, le=MOST_CANDIDATES)] | None = None
    answer: Vote | None = None
    begin_tokens: list[Token] | None = None


class Sampling(Struct, kw_only=True):
    """What both kinds of request may say of the reply."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63))] | None = None
    n: Positive | None = None
    entropix: Entropix | None = None
    frequency_penalty: Unbuilt = None
    presence_penalty: Unbuilt = None
    repetition_penalty: Unbuilt = None
    repeat_penalty: Unbuilt = None
    logit_bias: Unbuilt = None
    grammar: Unbuilt = None
    json_schema: Unbuilt = None
    guided_json: Unbuilt = None
    structured_outputs: Unbuilt = None


class ChatRequest(Sampling, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Count | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    response_format: Unbuilt = None
    tools: Unbuilt = None
    tool_choice: Unbuilt = None
    functions: Unbuilt = None
    function_call: Unbuilt = None
    modalities: Unbuilt = None
    audio: Unbuilt = None
    prediction: Unbuilt = None
    web_search_options: Unbuilt = None


class CompletionRequest(Sampling, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | Annotated[list[str | int | Tokens], Meta(min_length=1)]
    logprobs: Count | None = None
    best_of: Unbuilt = None
    echo: Unbuilt = None
    suffix: Unbuilt = None


class TokenizeRequest(Struct):
    """`POST /tokenize`."""

    content: str
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class DetokenizeRequest(Struct):
    """`POST /detokenize`."""

    tokens: list[Token]


# --- answers ------------------------------------------------------------------------------------------


class CachedTokens(Struct):
    """What of a prompt was not decoded again."""

    cached_tokens: int


class Usage(Struct):
    """How many tokens a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Report(Struct, omit_defaults=True):
    """The extension's part of a choice: records of what happened, and at the end a summary."""

    events: list[dict[str, Any]] | UnsetType = UNSET
    summary: dict[str, Any] | UnsetType = UNSET


class TopLogprob(Struct):
    """One of the most probable tokens at a place."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    """A token and how probable it was."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    """The tokens of a message."""

    content: list[TokenLogprob]
    refusal: None = None


class Delta(Struct, omit_defaults=True):
    """What a chunk adds to a message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET


class ChunkChoice(Struct):
    """One choice's part of a chunk."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    entropix: Report | UnsetType = UNSET


class ChatChunk(Struct):
    """A part of a streamed answer."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: str = "chat.completion.chunk"
    usage: Usage | UnsetType = UNSET


class AssistantMessage(Struct):
    """What the model said."""

    content: str
    role: str = "assistant"
    refusal: None = None


class ChatChoice(Struct):
    """One whole reply."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str
    entropix: Report | UnsetType = UNSET


class ChatCompletion(Struct):
    """A whole answer."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: str = "chat.completion"


class TextLogprobs(Struct):
    """The tokens of a completion, in four lists of the same length."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class TextChoice(Struct):
    """One completion, or what a chunk adds to it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: str | None
    entropix: Report | UnsetType = UNSET


class Completion(Struct):
    """An answer in the older form; a stream's chunks have it too."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    object: str = "text_completion"
    usage: Usage | UnsetType = UNSET


class ModelMeta(Struct):
    """What a model is, under llama-server's names."""

    n_ctx: int
    n_ctx_train: int
    n_vocab: int
    n_params: int
    size: int


class ModelCard(Struct):
    """A model that is served."""

    id: str
    created: int
    context_length: int
    max_model_len: int
    meta: ModelMeta
    object: str = "model"
    owned_by: str = "entropix-edge"


class ModelList(Struct):
    """All models that are served: one."""

    data: list[ModelCard]
    object: str = "list"


class Health(Struct):
    """Whether requests are answered."""

    status: str


class Properties(Struct):
    """`GET /props`: how the model is served.

    Attributes:
        strategy: the table's conditions (`rules`, `otherwise`), and what a request may name: `presets` with all their
            values, `samplers`, and the `answers` that candidates may vote by.
    """

    model_alias: str
    model_file: str
    total_slots: int
    n_ctx: int
    chat_template: str | None
    bos_token: str
    eos_token: str
    attention_layers: list[int]
    strategy: dict[str, Any]
    default_generation_settings: dict[str, Any]
    build_info: str


class Piece(Struct):
    """A token and what it writes: a text, or the bytes of a part of a character."""

    id: int
    piece: str | list[int]


class TokenList(Struct):
    """The tokens of a text."""

    tokens: list[int | Piece]


class Content(Struct):
    """A text."""

    content: str


CHAT = msgspec.json.Decoder(ChatRequest)
COMPLETION = msgspec.json.Decoder(CompletionRequest)
TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)
