"""The only importer of llama_cpp: model, context, vocabulary, attention tap, devices."""

from .attention import preparing_tap
from .baseline import RAW_PROCESS, Completion, RawLoop
from .context import Context
from .devices import Device, can_repack, devices, llama_cpp_version, system_info
from .header import Header, read_header
from .model import Model
from .state import read_state, write_state
from .tap import is_compiled as tap_is_compiled
from .vocabulary import Vocabulary

__all__ = [
    "RAW_PROCESS",
    "Completion",
    "Context",
    "Device",
    "Header",
    "Model",
    "RawLoop",
    "Vocabulary",
    "can_repack",
    "devices",
    "llama_cpp_version",
    "preparing_tap",
    "read_header",
    "read_state",
    "system_info",
    "tap_is_compiled",
    "write_state",
]
