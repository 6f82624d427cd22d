"""The only importer of llama_cpp: model, context, vocabulary, attention tap, devices."""

from .architectures import MADE_FOR
from .context import Context
from .devices import Device, can_repack, devices, llama_cpp_version, system_info
from .header import Header, read_header
from .machine import (
    available_memory,
    default_threads,
    hottest,
    is_translated,
    processor_features,
    processor_name,
    swap,
    total_memory,
)
from .memory import PROCESS, Memory, Shape, check_fit, plan, predict
from .model import Model
from .raw import RAW_PROCESS, Completion, RawLoop
from .rpc import answers, before_abort, has_rpc, lost, serve
from .state import read_state, write_state
from .vocabulary import Vocabulary

__all__ = [
    "MADE_FOR",
    "PROCESS",
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
    "answers",
    "available_memory",
    "before_abort",
    "can_repack",
    "check_fit",
    "default_threads",
    "devices",
    "has_rpc",
    "hottest",
    "is_translated",
    "llama_cpp_version",
    "lost",
    "plan",
    "predict",
    "processor_features",
    "processor_name",
    "read_header",
    "read_state",
    "serve",
    "swap",
    "system_info",
    "total_memory",
    "write_state",
]
