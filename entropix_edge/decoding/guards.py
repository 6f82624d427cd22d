"""What keeps the acts within bounds: the budget of extra tokens, where pauses may stand, the way out of loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import BranchRule, LoopRule, PauseRule
    from .protocols import Vocabulary


class Budget:
    """Extra tokens decoded: never more than a share of the reply, a credit at its start counted in."""

    def __init__(self, rule: BranchRule) -> None:
        self._rule = rule
        self.spent = 0

    def allows(self, tokens: int, written: int) -> bool:
        """Whether so many more may be decoded after so many were written."""
        return self.spent + tokens <= self._rule.budget * (written + self._rule.credit)

    def spend(self, tokens: int) -> None:
        """Note extra tokens that were decoded."""
        self.spent += tokens


class PauseGuard:
    """Where a pause may stand.

    With a cooldown in the rule: not within it, not inside a word, not after a control token, and for a model
    with thinking tags inside the thinking alone. Without one anywhere; the table itself keeps two apart.

    Attributes:
        thinking: whether the model is between its thinking tags.
    """

    def __init__(self, rule: PauseRule, vocabulary: Vocabulary, prompt: Sequence[int]) -> None:
        self._rule = rule
        self._vocabulary = vocabulary
        self._ends: list[int] = []  # index after each pause
        self.thinking = False
        for token in prompt:
            self.see(token)

    def see(self, token: int) -> None:
        """Follow whether the model is thinking."""
        if self._vocabulary.thinking and token in self._vocabulary.thinking:
            self.thinking = token == self._vocabulary.thinking[0]

    def just_paused(self, index: int) -> bool:
        """Whether the token before this index ended a pause."""
        return bool(self._ends) and self._ends[-1] == index

    def allows(self, tokens: Sequence[int], next_piece: bytes) -> bool:
        """Whether a pause may stand after these tokens of the reply, before what would come next."""
        rule, index = self._rule, len(tokens)
        if rule.most and len(self._ends) >= rule.most:
            return False
        if rule.cooldown == 0:
            return True
        if index - (self._ends[-1] if self._ends else 0) < rule.cooldown:
            return False
        if self._vocabulary.thinking and not self.thinking:
            return False
        if self._vocabulary.is_control(tokens[-1]):
            return False
        return next_piece[:1].isspace() or self._vocabulary.piece(tokens[-1])[-1:].isspace()

    def note(self, index: int, length: int) -> None:
        """Note a pause of so many tokens at this index."""
        self._ends.append(index + length)

    def rewind(self, index: int, *, thinking: bool) -> None:
        """Forget what came after this index, where the model was `thinking` or not: it was taken back."""
        self._ends = [end for end in self._ends if end <= index]
        self.thinking = thinking


_LONGEST_PERIOD = 64


class LoopGuard:
    """Sees loops coming: only where one may be there is it looked for.

    In a loop every token has come before, at most a period ago. So tokens are counted that did so in a row.

    Args:
        rule: the preset's.
    """

    def __init__(self, rule: LoopRule) -> None:
        self._rule = rule
        periods = range(1, _LONGEST_PERIOD + 1)
        self._least = min(_repeated(rule, period) for period in periods)  # tokens of the shortest loop that have been
        self._last: dict[int, int] = {}  # where each token stood last
        self._seen = 0
        self._in_a_row = 0

    def next_token(self, tokens: Sequence[int]) -> int | None:
        """The token that would carry a loop on, where the reply's tokens end in one."""
        if not self._rule.span:
            return None
        while self._seen < len(tokens):
            token = tokens[self._seen]
            before = self._last.get(token, -_LONGEST_PERIOD - 1)
            self._in_a_row = self._in_a_row + 1 if self._seen - before <= _LONGEST_PERIOD else 0
            self._last[token] = self._seen
            self._seen += 1
        return loop_token(tokens, self._rule) if self._in_a_row >= self._least else None

    def rewind(self, index: int) -> None:
        """Note that the tokens from an index on were taken back: what stood before may be a loop."""
        self._seen = min(self._seen, index)
        self._in_a_row = index


def loop_token(tokens: Sequence[int], rule: LoopRule) -> int | None:
    """The token that would carry a loop on, where the tokens end in one.

    A loop is a period that has come `repeats` times and over at least `span` tokens. Only periods whose last
    token matches are compared.
    """
    count = len(tokens)
    if not rule.span or count <= rule.span:
        return None
    last = tokens[-1]
    for period in range(1, min(_LONGEST_PERIOD, count // rule.repeats) + 1):
        if tokens[-1 - period] != last:
            continue
        same = _repeated(rule, period)
        if same + period <= count and tokens[-same:] == tokens[-same - period : -period]:
            return tokens[-period]
    return None


def _repeated(rule: LoopRule, period: int) -> int:
    """Tokens of a loop that are those of a period before."""
    return max(rule.span, period * rule.repeats) - period
