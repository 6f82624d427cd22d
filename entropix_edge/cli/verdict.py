"""What is done with a reply that is too likely to be wrong: it is not given, or another model is asked."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import click

from ..errors import ConfigError
from ..types import FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import GenerationConfig, Preset
    from ..engine import Reply
    from ..sessions import VotingConfig
    from ..types import ConfidenceEvent

    Generate = Callable[[Callable[[str], Preset]], GenerationConfig]

# annotations are not deferred here: the options in them would be compiled anew at each start

_BELOW = 0.5  # where nothing else is said: a second model is asked if the first is more likely wrong than right
_PROBABILITY = click.FloatRange(0, 1)


class Verdict(Enum):
    """What a threshold says of a reply."""

    GIVEN = "given"
    DOUBTED = "doubted"
    UNKNOWN = "unknown"


class VerdictOptions(NamedTuple):
    """How likely an answer must be right, and what is done with one that is not."""

    abstain_below: Annotated[
        float | None,
        click.option(
            "--abstain-below",
            type=_PROBABILITY,
            metavar="P",
            help="Say `I do not know` (exit code 3) where the answer is right with a probability below P, such as 0.6.",
        ),
    ]
    escalate: Annotated[
        str | None,
        click.option(
            "--escalate",
            metavar="MODEL|URL",
            help="Ask another model where the answer is right with a probability below --below: one on this machine, "
            "or an OpenAI-compatible server (its key in OPENAI_API_KEY, its model's name after a #).",
        ),
    ]
    below: Annotated[
        float | None,
        click.option("--below", type=_PROBABILITY, metavar="P", help="For --escalate. Default: 0.5."),
    ]

    @property
    def threshold(self) -> float | None:
        """Below which probability a reply is doubted; None where none is."""
        if self.abstain_below is not None or self.escalate is None:
            return self.abstain_below
        return _BELOW if self.below is None else self.below

    @property
    def server(self) -> str | None:
        """The URL of the server to ask; None where it is a model on this machine, or none."""
        return self.escalate if self.escalate and "://" in self.escalate else None

    def check(self, *, offline: bool) -> None:
        """Refuse what could only fail later.

        Args:
            offline: whether the network is forbidden.

        Raises:
            click.UsageError: options that do not go together.
        """
        if self.below is not None and self.escalate is None:
            raise click.UsageError("--below P is for --escalate MODEL|URL: give that too, or --abstain-below P")
        if self.escalate is not None and self.abstain_below is not None:
            raise click.UsageError("--abstain-below and --escalate are two answers to one doubt: give one of them")
        if self.server is None:
            return
        import urllib.parse

        from ..addresses import is_loopback

        try:
            parts = urllib.parse.urlsplit(self.server)
            host = parts.hostname if parts.scheme in ("http", "https") else None
        except ValueError:  # brackets that do not close
            host = None
        if not host:
            raise click.UsageError(f"--escalate {self.server} is not the URL of a server: give http(s)://HOST/v1")
        if offline and not is_loopback(host):
            raise click.UsageError(f"--escalate {self.server} needs the network, which --offline forbids")

    def check_fit(self, model: Path, generate: "Generate", voting: "VotingConfig | None") -> None:
        """Refuse a threshold where no reply could have a probability.

        Args:
            model: the file.
            generate: how replies are generated, with presets from its argument.
            voting: how one of several is chosen.

        Raises:
            ConfigError: nothing is fitted to such replies.
        """
        if self.threshold is None:
            return
        from ..engine import Fitted

        fitted = Fitted(model)
        policy = fitted.policy(generate(fitted.preset_named)) + (f", {voting.name}" if voting else "")
        if fitted.confidence.of(policy):
            return
        known = ", ".join(dict.fromkeys(fit.policy for fit in fitted.confidence.fits))
        raise ConfigError(
            f"how likely {model.name} is right was not fitted to replies by {policy}"
            f"{f' (only by {known})' if known else ''}: `entropix-edge calibrate --confidence FILE` does it"
        )

    def of(self, confidence: "ConfidenceEvent | None") -> Verdict:
        """What the threshold says of a reply."""
        if self.threshold is None:
            return Verdict.GIVEN
        if confidence is None or confidence.kind != "probability":
            return Verdict.UNKNOWN
        return Verdict.DOUBTED if confidence.value < self.threshold else Verdict.GIVEN

    def told(self, verdict: Verdict, reply: "Reply") -> str:
        """What is said beside the reply of a verdict; nothing where it is given."""
        confidence = reply.confidence
        if verdict is Verdict.UNKNOWN:
            whole = reply.finish_reason is FinishReason.STOP
            why = "it is not of a kind that was fitted" if whole else "it was cut"
            return f"How likely this reply is right cannot be said ({why}): it is given as it is."
        if verdict is Verdict.GIVEN or confidence is None or self.threshold is None:
            return ""
        likely = f"{100 * confidence.value:.0f} % likely to be right, below {100 * self.threshold:.0f} %"
        return f"{likely}: asking {self.escalate}." if self.escalate else f"I do not know. A guess, {likely}:"
