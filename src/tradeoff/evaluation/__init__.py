"""Evaluation of robustness; `evaluate` is for anybody's model."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`evaluate`, imported when asked for: what summarises ledgers must not load torch."""
    if name == "evaluate":
        from tradeoff.evaluation.anymodel import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
