"""Figures that Flower's own functions gave (tests/data/flower/make.py), and how close ours have to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FIGURES: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "flower" / "figures.json").read_text(encoding="utf-8")
)


def arrays(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Weights as they went into Flower: float32, to the bit."""
    return {name: np.array(values, np.float32) for name, values in figures.items()}


def assert_close(weights: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float = 1e-6) -> None:
    """Same names in the same order, same shapes, and values to 1e-6, relative for large and absolute for small ones."""
    assert list(weights) == list(wanted)
    for name, array in weights.items():
        assert array.shape == np.shape(wanted[name])
        np.testing.assert_allclose(array, wanted[name], rtol=tolerance, atol=tolerance, err_msg=name)
