"""The only importer of llama_cpp: model, context, vocabulary, attention tap, devices."""

from .context import Context
from .devices import Device, can_repack, devices, llama_cpp_version, system_info
from .header import Header, read_header
from .machine import default_threads, processor_name, total_memory
from .memory import Memory, Shape, plan, predict
from .model import Model
from .raw import RAW_PROCESS, Completion, RawLoop
from .state import read_state, write_state
from .vocabulary import Vocabulary

__all__ = [
    "RAW_PROCESS",
    "Completion",
    "Context",
    "Device",
    "Header",
    "Memory",
    "Model",
    "RawLoop",
    "Shape",
    "Vocabulary",
    "can_repack",
    "default_threads",
    "devices",
    "llama_cpp_version",
    "plan",
    "predict",
    "processor_name",
    "read_header",
    "read_state",
    "system_info",
    "total_memory",
    "write_state",
]
