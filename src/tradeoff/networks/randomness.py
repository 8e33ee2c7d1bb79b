"""Random numbers that belong to a sample, whatever batch or device it is in.

An evaluation must not depend on how images are batched or in which order fooled ones drop out.
So attacks do not draw from a generator: each number is a hash of (key of the sample, counter,
position), SplitMix64 (Steele et al. 2014) in tensor arithmetic. Training, where the batch is
part of the algorithm, uses ordinary `torch.Generator`s.
"""

import hashlib
import math

import torch
from torch import Tensor

from tradeoff.networks.elementary import log, sqrt

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX_2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def derive_seed(*parts: object) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by `parts`, for example ("train", seed, epoch)."""
    return torch.Generator(device).manual_seed(derive_seed(*parts))


def sample_keys(indices: Tensor, *parts: object) -> Tensor:
    """Keys (N,) int64, one per sample: `indices` (N,) names the samples, `parts` the purpose."""
    return _mix(indices.long() * _GOLDEN + derive_seed(*parts))


def uniform(keys: Tensor, counter: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float32 (N, *shape); `counter` numbers the draw of a sample."""
    return (_bits(keys, counter, math.prod(shape)) >> 40 & 0xFFFFFF).view(-1, *shape) / 2.0**24


def normal(keys: Tensor, counter: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, float32 (N, *shape), by the Box-Muller transform."""
    bits = _bits(keys, counter, math.prod(shape))
    radius = sqrt(-2 * log(((bits >> 40 & 0xFFFFFF) + 1) / 2.0**24))
    angle = (bits & 0xFFFFFF) * (2 * math.pi / 2.0**24)
    return (radius * torch.cos(angle)).view(-1, *shape)


def _bits(keys: Tensor, counter: int, count: int) -> Tensor:
    # The offset may pass 2^63; wrapped by hand, because torch takes no larger Python integer.
    offset = counter * 0x2545F4914F6CDD1D % 2**64
    state = _mix(keys + (offset - 2**64 if offset >= 2**63 else offset))[:, None]
    positions = torch.arange(1, count + 1, device=keys.device)
    return _mix(state + positions * _GOLDEN)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's is arithmetic on signed integers."""
    return z >> bits & (1 << 64 - bits) - 1
