"""Number formats and kernels of a run."""

import dataclasses
import os
from pathlib import Path

import torch
from torch import nn

from config import Config
from models.registry import find_network
from tools.common.errors import UserError
from tools.training.distributed import Processes

AMPERE = (8, 0)  # compute capability of the first GPUs whose tensor cores support bfloat16
BF16 = "avx512_bf16"  # products of bfloat16, which processors with AMX have too
CPU_INFO = Path("/proc/cpuinfo")  # of Linux; without these instructions, bf16 was slower than fp32


def settle_precision(config: Config, processes: Processes) -> tuple[Config, str]:
    """Return the config with the precision that `auto` becomes on the first process's device, and the reason.

    Raises UserError for bf16 on a device that does not support it.
    """
    if config.precision == "auto":
        precision, reason = processes.gather(_choose(processes.device, config.model))[0]
        return dataclasses.replace(config, precision=precision), reason
    if config.precision == "bf16" and (lack := lack_of_bf16(processes.device)):
        raise UserError(f"precision: found bf16, but {lack}; use --precision fp32")
    return config, "as set"


def set_kernels(config: Config) -> None:
    """Set for the whole process whether products use TF32, and whether kernels must be deterministic."""
    tf32 = config.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    # Loads torch's compiler, as optimisers do, which needs a name of the user; a container's may lack one.
    os.environ.setdefault("USER", str(os.getuid()))
    torch.use_deterministic_algorithms(config.deterministic)
    # Measuring kernels pays as all batches have one shape, but does not choose the same every time.
    torch.backends.cudnn.benchmark = not config.deterministic


def arrange_channels(model: nn.Module, config: Config, device: torch.device) -> None:
    """Use channels-last memory if it is set, and for bf16 on a CPU if that suits the network.

    oneDNN computes bf16 convolutions in this format; torch converts others, which is slow.
    """
    suits = device.type == "cpu" and config.precision == "bf16" and getattr(model, "suits_channels_last", False)
    if config.channels_last or suits:
        model.to(memory_format=torch.channels_last)


def _choose(device: torch.device, network: str) -> tuple[str, str]:
    if device.type == "cuda":
        lack = lack_of_bf16(device)
        return ("fp32", lack) if lack else ("bf16", "GPUs from Ampere on compute faster with it")
    if not getattr(find_network(network).kind, "gains_from_bf16", True):
        return "fp32", f"on a CPU, {network} computes no faster in bf16"
    cpu = CPU_INFO.read_text() if CPU_INFO.is_file() else ""
    return ("bf16", f"this processor has {BF16}") if BF16 in cpu else ("fp32", f"this processor lacks {BF16}")


def lack_of_bf16(device: torch.device) -> str:
    """Return why the device does not support bfloat16; "" if it does."""
    if device.type == "cuda":
        return "" if torch.cuda.get_device_capability(device) >= AMPERE else "this GPU is older than Ampere"
    able = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "" if able else "this processor lacks the instructions for bfloat16 (AVX-512)"
