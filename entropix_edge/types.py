"""The values that flow: metrics, strategies, actions, feeds and events. All are frozen.

Those that every token needs are tuples: they cost the least to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Logits = npt.NDArray[np.float32]


# --- what is measured ---------------------------------------------------------------------------


class AttentionMetrics(NamedTuple):
    """What the heads of the watched layers do at the newest position, averaged over those layers.

    Attributes:
        entropy: mean over heads of the entropy of a head's weights, in bits.
        varentropy: variance over heads of those entropies, in bits².
        agreement: mean over heads and attended positions of |p − mean over heads of p|; 0 when all agree.
        interaction_strength: mean over heads and attended positions of |scaled score before the mask|.
    """

    entropy: float
    varentropy: float
    agreement: float
    interaction_strength: float


NO_ATTENTION = AttentionMetrics(0.0, 0.0, 0.0, 0.0)
"""What the table's formulas use where attention cannot be seen."""


class Metrics(NamedTuple):
    """How sure the model is of the next token.

    Attributes:
        entropy: of the next-token distribution at temperature 1, in bits.
        varentropy: variance of the surprisal under the same distribution, in bits².
        attention: the attention's metrics, None where it is not watched.
    """

    entropy: float
    varentropy: float
    attention: AttentionMetrics | None = None


class Row(NamedTuple):
    """What one decoded position gives back: valid until the next decode.

    Attributes:
        logits: float32, shape (n_vocab,); a view of llama.cpp's own buffer.
        attention: the position's attention metrics, None where not watched.
    """

    logits: Logits
    attention: AttentionMetrics | None


class Cell(NamedTuple):
    """One token to decode: its place in a sequence, and whether its row is wanted."""

    token: int
    position: int
    sequence: int
    wanted: bool


# --- what is decided ----------------------------------------------------------------------------


class Strategy(StrEnum):
    """A quadrant of the table, named after what is done there."""

    ARGMAX = "argmax"
    BRANCH = "branch"
    PAUSE = "pause"
    RESAMPLE = "resample"
    ADAPTIVE = "adaptive"

    @property
    def quadrant(self) -> str:
        """Low or high entropy, low or high varentropy: `LELV`, and `—` for the rest."""
        return _QUADRANTS[self]


_QUADRANTS = {
    Strategy.ARGMAX: "LELV",
    Strategy.BRANCH: "LEHV",
    Strategy.PAUSE: "HELV",
    Strategy.RESAMPLE: "HEHV",
    Strategy.ADAPTIVE: "—",
}


class SamplerSettings(NamedTuple):
    """The filters of one draw, applied in this order.

    Attributes:
        temperature: divides the logits; 0 means the most probable token.
        top_k: how many of the most probable tokens may be drawn; 0 means all.
        top_p: the least probability mass kept, in (0, 1].
        min_p: the least share of the best token's probability, in [0, 1].
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float


@dataclass(frozen=True, slots=True)
class Argmax:
    """Take the most probable token."""


class Draw(NamedTuple):
    """Draw from the filtered distribution; of several draws keep the most probable token.

    Attributes:
        settings: the filters.
        draws: how many.
        atypical: reject a token whose surprisal is above H + atypical·√V and draw again without it;
            0 rejects nothing.
        redraws: most rejections before what is drawn is taken.
    """

    settings: SamplerSettings
    draws: int = 1
    atypical: float = 0.0
    redraws: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """Insert the pause tokens; where a pause would do harm, draw instead."""

    instead: Draw


@dataclass(frozen=True, slots=True)
class Branch:
    """Fork, and go on with the branch that scores best; where there is no capacity for that, draw."""

    instead: Draw


Action = Argmax | Draw | Pause | Branch


# --- what a generation asks of the scheduler ----------------------------------------------------


class Feed(NamedTuple):
    """Decode tokens after what the sequence holds; answered with the `Row` of the last.

    After a `Rewind`, no tokens ask for the row before its position again. With `branches`, one token on each of those
    branches instead; answered with a tuple of their rows.
    """

    tokens: tuple[int, ...]
    branches: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fork:
    """Make branches that share all the sequence holds; answered with whether there was capacity.

    Attributes:
        children: how many; they are numbered from 0.
        horizon: most tokens that each will be fed.
    """

    children: int
    horizon: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Let a branch take the sequence's place and drop the others; None drops all. Answered with None."""

    branch: int | None


@dataclass(frozen=True, slots=True)
class Rewind:
    """Drop what the sequence holds from this position on; answered with whether that can be done."""

    position: int


Request = Feed | Fork | Keep | Rewind


# --- what a generation emits ---------------------------------------------------------------------


class Origin(StrEnum):
    """How a token came into the text."""

    SAMPLED = "sampled"
    FORCED = "forced"
    BRANCH = "branch"


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    REPETITION = "repetition"
    CANCELLED = "cancelled"


class Alternative(NamedTuple):
    """One of the most probable tokens at a position.

    Attributes:
        token_id: its id.
        text: as it would be written alone.
        logprob: natural logarithm of its probability, from the raw logits at temperature 1.
    """

    token_id: int
    text: str
    logprob: float


class TokenEvent(NamedTuple):
    """One token of the reply, or (with `token_id` None) the end of a reply that no token can carry.

    Attributes:
        index: the token's place in the reply, from 0.
        token_id: its id in the model's vocabulary.
        text: what it adds to the output; may be empty (half a character, a stop string's beginning).
        logprob: natural logarithm of its probability, from the raw logits at temperature 1.
        metrics: of the distribution that it was taken from.
        strategy: the quadrant of the table in which that distribution fell; on the tokens of a pause
            or a branch, the strategy that put them there.
        origin: sampled, forced or branch.
        finish_reason: on the last event of a generation, else None.
        alternatives: the most probable tokens at this position, best first, where they were asked for.
    """

    index: int  # type: ignore[assignment]  # over the method of tuples
    token_id: int | None
    text: str
    logprob: float | None = None
    metrics: Metrics | None = None
    strategy: Strategy | None = None
    origin: Origin | None = None
    finish_reason: FinishReason | None = None
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class BranchEvent:
    """One branch of a fork, kept or not. It comes before the tokens of the branch that was kept.

    Attributes:
        index: where in the reply it begins.
        token_ids: its tokens.
        text: as those tokens alone would be written.
        score: by which branches were compared; more is better.
        kept: whether the reply went on with it.
    """

    index: int
    token_ids: tuple[int, ...]
    text: str
    score: float
    kept: bool


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """A token that was drawn and not taken.

    Attributes:
        index: where in the reply it would have stood.
        token_id: its id.
        text: as it would be written alone.
        surprisal: −log2 of its probability, in bits.
        limit: the most surprisal that was acceptable, in bits; None where it would have fed a loop.
    """

    index: int
    token_id: int
    text: str
    surprisal: float
    limit: float | None


@dataclass(frozen=True, slots=True)
class RewindEvent:
    """Tokens that were taken back, before anyone saw them.

    Attributes:
        index: where in the reply they began.
        token_ids: what they were.
        text: as they would be written.
    """

    index: int
    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class FallbackEvent:
    """A strategy that could not act, and why.

    Attributes:
        index: where in the reply.
        strategy: what was called for.
        reason: one phrase.
    """

    index: int
    strategy: Strategy
    reason: str


@dataclass(frozen=True, slots=True)
class CandidateEvent:
    """One whole reply among several, chosen or not. It comes before the tokens of the one that was chosen.

    Attributes:
        number: its place among the candidates, from 0.
        token_ids: its tokens.
        text: what it says.
        confidence: 2 to the power of minus its mean entropy: 1 where the model was sure of every token.
        answer: by which it votes; None where it has none.
        kept: whether it was chosen.
    """

    number: int
    token_ids: tuple[int, ...]
    text: str
    confidence: float
    answer: str | None
    kept: bool


@dataclass(frozen=True, slots=True)
class CorrectionEvent:
    """A number that was wrong and was replaced, before anyone saw it. Forced tokens follow.

    Attributes:
        index: where in the reply the tokens that were taken back began.
        token_ids: what they were.
        text: as they would be written.
        expression: what was evaluated.
        found: the number that stood there.
        right: the number that stands there now.
    """

    index: int
    token_ids: tuple[int, ...]
    text: str
    expression: str
    found: str
    right: str


@dataclass(frozen=True, slots=True)
class ConfidenceEvent:
    """How sure of a finished reply one may be. It comes before the reply's last token.

    Attributes:
        index: of that token.
        kind: what the value is: `probability` or `rank`.
        value: the probability that the answer is right, or the share of the model's replies that were less sure.
        answer: that the probability is about; None for a rank.
        compared: on how many answers, or replies, the value rests.
        least_sure: tokens that carry the answer, by index, the least sure first; none where the model was sure.
    """

    index: int
    kind: str
    value: float
    answer: str | None
    compared: int
    least_sure: tuple[int, ...] = ()


SideEvent = (
    BranchEvent | RejectedEvent | RewindEvent | FallbackEvent | CandidateEvent | CorrectionEvent | ConfidenceEvent
)
Event = TokenEvent | SideEvent
