"""Local GGUF models, decoded by a strategy that reads the model's own uncertainty.

    from entropix_edge import Engine

    with Engine.open("smollm2-135m") as engine:
        for event in engine.stream("Why is the sky blue?"):
            print(event.text, end="", flush=True)

Names are imported when they are first used, so that `import entropix_edge` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import EngineConfig, GenerationConfig, Preset
    from .engine import Engine, Reply, ReplyStream
    from .errors import (
        ConfigError,
        ContextError,
        DownloadError,
        EncodingError,
        EntropixError,
        Hint,
        MetricsError,
        ModelError,
        ModelFileError,
        ModelNotFoundError,
        PromptError,
        TemplateError,
    )
    from .hub import Progress
    from .sessions import Conversation, Deliberation, PendingTurn, Turn, Vote, VotingConfig
    from .strategy import load_preset, override
    from .text import Message
    from .types import (
        Alternative,
        AttentionMetrics,
        BranchEvent,
        CandidateEvent,
        ConfidenceEvent,
        CorrectionEvent,
        FallbackEvent,
        FinishReason,
        Metrics,
        Origin,
        RejectedEvent,
        RewindEvent,
        Strategy,
        TokenEvent,
    )

__version__ = "0.1.0"

__all__ = [
    # open a model and talk to it
    "Conversation",
    "Deliberation",
    "Engine",
    "EngineConfig",
    "GenerationConfig",
    "Message",
    "Preset",
    "Progress",
    "VotingConfig",
    "load_preset",
    "override",
    # what comes back
    "Alternative",
    "AttentionMetrics",
    "BranchEvent",
    "CandidateEvent",
    "ConfidenceEvent",
    "CorrectionEvent",
    "FallbackEvent",
    "FinishReason",
    "Metrics",
    "Origin",
    "PendingTurn",
    "RejectedEvent",
    "Reply",
    "ReplyStream",
    "RewindEvent",
    "Strategy",
    "TokenEvent",
    "Turn",
    "Vote",
    # what can go wrong
    "ConfigError",
    "ContextError",
    "DownloadError",
    "EncodingError",
    "EntropixError",
    "Hint",
    "MetricsError",
    "ModelError",
    "ModelFileError",
    "ModelNotFoundError",
    "PromptError",
    "TemplateError",
]

_MODULES = {
    "engine": ("Engine", "Reply", "ReplyStream"),
    "config": ("EngineConfig", "GenerationConfig", "Preset"),
    "hub": ("Progress",),
    "sessions": ("Conversation", "Deliberation", "PendingTurn", "Turn", "Vote", "VotingConfig"),
    "strategy": ("load_preset", "override"),
    "text": ("Message",),
    "types": (
        "Alternative",
        "AttentionMetrics",
        "BranchEvent",
        "CandidateEvent",
        "ConfidenceEvent",
        "CorrectionEvent",
        "FallbackEvent",
        "FinishReason",
        "Metrics",
        "Origin",
        "RejectedEvent",
        "RewindEvent",
        "Strategy",
        "TokenEvent",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
