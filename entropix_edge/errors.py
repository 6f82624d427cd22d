"""The errors this library raises.

EntropixError
├── ConfigError            an option, a threshold or a coefficient is wrong
├── ModelError
│   ├── ModelNotFoundError no such file, alias, repository or quantisation
│   ├── ModelFileError     the file is damaged, or is not what was asked for
│   └── DownloadError      a model could not be fetched
├── PromptError            the prompt is empty, or too long for the context
├── TemplateError          the model's chat template failed
├── EncodingError          a text file is not UTF-8, or is no text
├── ContextError           llama.cpp could not make the context or decode in it
└── MetricsError           the model's output is not a distribution (NaN, no finite logit)

Each message is one line: what was wrong, the value, and what would be right. Where a setting would mend it, the error
has a `Hint` that names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Hint:
    """The setting to change so that an error does not come again.

    Attributes:
        advice: what to do, in words; `{}` stands for the setting.
        setting: a field of a configuration, or an argument of the public functions, such as `ctx_size`.
        change: what to do with the setting.
        value: the value to set, or to take away; None where any larger or smaller one does.
    """

    advice: str
    setting: str
    change: Literal["raise", "lower", "set", "unset"]
    value: str | bool | None = None

    def told(self, setting: str) -> str:
        """The advice with the setting spelled as its reader knows it."""
        return self.advice.replace("{}", setting, 1)

    def __str__(self) -> str:
        return self.told(self.setting if self.value is None else f"{self.setting}={self.value!r}")


class EntropixError(Exception):
    """Root of every error that this library raises on purpose.

    Args:
        message: what was wrong, in one line.
        hint: what to change.
    """

    def __init__(self, message: str = "", *, hint: Hint | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class ConfigError(EntropixError, ValueError):
    """An option, a threshold or a coefficient is unknown or outside its range."""


class ModelError(EntropixError):
    """A model cannot be found, fetched or used."""


class ModelNotFoundError(ModelError):
    """No file, alias, repository or quantisation of that name."""


class ModelFileError(ModelError):
    """The file is damaged, is not GGUF, or cannot do what was asked of it."""


class DownloadError(ModelError):
    """A model could not be fetched: offline, gated, interrupted, or its checksum differs."""


class PromptError(EntropixError, ValueError):
    """The prompt is empty, or does not fit the context."""


class TemplateError(EntropixError):
    """The model's chat template is missing, malformed or forbidden."""


class EncodingError(EntropixError, ValueError):
    """A text file is in another encoding than UTF-8 and does not say so, or is no text."""


class ContextError(EntropixError):
    """llama.cpp could not create a context, or could not decode in it."""


class MetricsError(EntropixError):
    """The logits are not a distribution: a NaN, an infinity, or no finite value at all."""
