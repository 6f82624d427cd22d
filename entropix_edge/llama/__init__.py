"""The only importer of llama_cpp: model, context, vocabulary, attention tap, devices."""

from .attention import prepare_tap
from .context import Context
from .devices import Device, devices, system_info
from .header import Header, read_header
from .model import Model
from .state import read_state, write_state
from .vocabulary import Vocabulary

__all__ = [
    "Context",
    "Device",
    "Header",
    "Model",
    "Vocabulary",
    "devices",
    "prepare_tap",
    "read_header",
    "read_state",
    "system_info",
    "write_state",
]
