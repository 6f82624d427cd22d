"""The names that strangers import."""

import subprocess
import sys

import entropix_edge


def test_the_public_names_are_these() -> None:
    assert sorted(entropix_edge.__all__) == [
        "Alternative",
        "AttentionMetrics",
        "BranchEvent",
        "CandidateEvent",
        "ConfidenceEvent",
        "ConfigError",
        "ContextError",
        "Conversation",
        "CorrectionEvent",
        "Deliberation",
        "DownloadError",
        "EncodingError",
        "Engine",
        "EngineConfig",
        "EntropixError",
        "FallbackEvent",
        "FinishReason",
        "GenerationConfig",
        "Hint",
        "Message",
        "Metrics",
        "MetricsError",
        "ModelError",
        "ModelFileError",
        "ModelNotFoundError",
        "Origin",
        "PendingTurn",
        "Preset",
        "Progress",
        "PromptError",
        "RejectedEvent",
        "Reply",
        "ReplyStream",
        "RewindEvent",
        "Strategy",
        "TemplateError",
        "TokenEvent",
        "Turn",
        "Vote",
        "VotingConfig",
        "load_preset",
        "override",
    ]


def test_every_public_name_is_there() -> None:
    for name in entropix_edge.__all__:
        assert getattr(entropix_edge, name).__name__ == name


def test_every_error_is_an_entropix_error() -> None:
    for name in entropix_edge.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(entropix_edge, name), entropix_edge.EntropixError)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, entropix_edge; print([m for m in ('numba', 'llama_cpp', 'numpy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
