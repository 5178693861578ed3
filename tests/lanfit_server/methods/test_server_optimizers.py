"""Server optimizers against the formulas of the papers in float64, and against Flower's own figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from fakes.flower import FIGURES, arrays, assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lanfit.errors import InputError
from lanfit.models import mean as walking
from lanfit_server.methods.federated.server_optimizers import DEFAULTS, Strategy, server_optimizer

STEPPING: list[Strategy] = ["fedavgm", "fedadam", "fedyogi"]
ALL: list[Strategy] = ["fedavg", "fedprox", *STEPPING]
ONE = frozenset({"w/w"})


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """Small arrays are walked over in several steps, the last one shorter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walking, "CHUNK", 16)
        yield


def reference(strategy: Strategy, start: Any, targets: Any, rate: float, p: Mapping[str, float]) -> list[Any]:
    """The weights after each round, as the papers write it, in float64."""
    w = start.astype(np.float64)
    m = velocity = np.zeros_like(w)
    v = np.full_like(w, p.get("tau", 0) ** 2)
    after = []
    for target in targets:
        delta = target.astype(np.float64) - w
        if strategy == "fedavgm":
            velocity = p["momentum"] * velocity + delta
            w = w + rate * velocity
        elif strategy in ("fedadam", "fedyogi"):
            m = p["beta_1"] * m + (1 - p["beta_1"]) * delta
            if strategy == "fedadam":
                v = p["beta_2"] * v + (1 - p["beta_2"]) * delta**2
            else:
                v = v - (1 - p["beta_2"]) * delta**2 * np.sign(v - delta**2)
            w = w + rate * m / (np.sqrt(v) + p["tau"])
        else:
            w = w + rate * delta
        after.append(w)
    return after


@settings(deadline=None)
@given(
    st.sampled_from(ALL),
    npst.arrays(np.float64, st.tuples(st.just(5), st.integers(0, 40)), elements=st.floats(-10, 10, width=32)),
    st.floats(0.001, 1),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(1e-3, 1)),
)
def test_rounds_are_those_of_the_paper(
    strategy: Strategy, numbers: Any, rate: float, others: tuple[float, float, float]
) -> None:
    kinds: dict[str, float] = {}
    if strategy == "fedavgm":
        kinds = {"momentum": others[0]}
    elif strategy in ("fedadam", "fedyogi"):
        kinds = {"beta_1": others[0], "beta_2": others[1], "tau": others[2]}
    start, *targets = numbers
    optimizer = server_optimizer(strategy, rate, **kinds, trainable=ONE)
    weights: Mapping[str, Any] = {"w/w": start}
    for target, wanted in zip(targets, reference(strategy, start, targets, rate, kinds), strict=True):
        weights = optimizer.step(weights, {"w/w": target})
        np.testing.assert_allclose(weights["w/w"], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strategy", ALL)
def test_float32_weights_stay_close_to_float64_ones_over_many_rounds(strategy: Strategy) -> None:
    random = np.random.default_rng(1)
    start = random.normal(size=100).astype(np.float32)
    optimizer = server_optimizer(strategy, 0.1, trainable=ONE)
    weights: Mapping[str, Any] = {"w/w": start}
    targets = []
    for _ in range(30):
        targets.append((weights["w/w"] + 0.1 * random.normal(size=100)).astype(np.float32))
        weights = optimizer.step(weights, {"w/w": targets[-1]})
    kinds = {name: value for name, value in vars(DEFAULTS[strategy]).items() if value is not None}
    wanted = reference(strategy, start, targets, 0.1, kinds)[-1]
    assert weights["w/w"].dtype == np.float32
    np.testing.assert_allclose(weights["w/w"], wanted, rtol=1e-5, atol=1e-5)


# --- Flower ---


def flower_names(figures: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(figures["start"])


@pytest.mark.parametrize("figures", FIGURES["fedavgm"], ids=lambda figures: str(figures["parameters"]))
def test_fedavgm_is_flowers(figures: Mapping[str, Any]) -> None:
    parameters = figures["parameters"]
    optimizer = server_optimizer(
        "fedavgm",
        parameters["server_learning_rate"],
        parameters["server_momentum"],
        trainable=flower_names(figures),
    )
    weights = arrays(figures["start"])
    for each in figures["rounds"]:
        weights = optimizer.step(weights, arrays(each["aggregated"]))
        assert_close(weights, each["weights"])


@pytest.mark.parametrize(
    ("strategy", "figures"), [(strategy, figures) for strategy in STEPPING[1:] for figures in FIGURES[strategy]]
)
def test_fedadam_and_fedyogi_are_flowers_begun_and_corrected_as_it_does(
    strategy: Strategy, figures: Mapping[str, Any]
) -> None:
    """Flower begins v at 0, and its FedAdam corrects a bias by the learning rate, with t + 1 in round t."""
    eta, beta_1, beta_2, tau = (figures["parameters"][name] for name in ("eta", "beta_1", "beta_2", "tau"))
    weights = arrays(figures["start"])
    state = {f"{kind}:{name}": np.zeros_like(array) for kind in ("m", "v") for name, array in weights.items()}
    for number, each in enumerate(figures["rounds"], 1):
        corrected = (1 - beta_2 ** (number + 1)) ** 0.5 / (1 - beta_1 ** (number + 1)) if strategy == "fedadam" else 1
        optimizer = server_optimizer(
            strategy, eta * corrected, beta_1=beta_1, beta_2=beta_2, tau=tau, trainable=flower_names(figures)
        )
        optimizer.restore(state)
        weights = optimizer.step(weights, arrays(each["aggregated"]))
        state = optimizer.state()
        assert_close(weights, each["weights"])


# --- the interface ---


def model(seed: int, dtype: str = "float32") -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "dense/kernel": random.normal(size=(5, 7)).astype(dtype),
        "norm/moving_mean": random.normal(size=7).astype(dtype),
        "dense/bias": random.normal(size=()).astype(dtype),
        "seed/state": np.array([seed, 7], np.uint32),
    }


TRAINABLE = frozenset({"dense/kernel", "dense/bias"})


@pytest.mark.parametrize("strategy", ALL)
def test_only_trainable_weights_are_stepped_and_all_others_are_the_aggregates(strategy: Strategy) -> None:
    start, aggregated = model(0), model(1)
    new = server_optimizer(strategy, 0.5, trainable=TRAINABLE | {"seed/state"}).step(start, aggregated)
    assert list(new) == list(start)
    for name in ("norm/moving_mean", "seed/state"):
        np.testing.assert_array_equal(new[name], aggregated[name])
    for name in TRAINABLE:
        assert new[name].shape == start[name].shape
        assert (new[name] != aggregated[name]).all()
        assert (new[name] != start[name]).all()


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_averaging_takes_the_aggregate_as_it_is(strategy: Strategy) -> None:
    for dtype in ("float16", "float32", "float64"):
        aggregated = model(1, dtype)
        new = server_optimizer(strategy, trainable=TRAINABLE).step(model(0, dtype), aggregated)
        assert all(new[name] is aggregated[name] for name in aggregated)


def test_the_first_round_with_momentum_is_that_of_averaging() -> None:
    new = server_optimizer("fedavgm", trainable=TRAINABLE).step(model(0), model(1))
    assert_close(new, model(1), 1e-7)


@pytest.mark.parametrize("strategy", STEPPING[1:])
def test_the_first_round_of_an_adaptive_optimizer_moves_about_the_learning_rate(strategy: Strategy) -> None:
    """Far from τ, m / √v is (1 - β₁) Δ / √((1 - β₂) Δ²), which is 1 for the betas of the paper."""
    start = {"w/w": np.zeros(3)}
    new = server_optimizer(strategy, 0.01, trainable=ONE).step(start, {"w/w": np.array([5.0, -5.0, 0.0])})
    np.testing.assert_allclose(new["w/w"], [0.01, -0.01, 0], rtol=0.01)


@pytest.mark.parametrize(("weights", "kept"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")])
@pytest.mark.parametrize("strategy", ALL)
def test_what_is_kept_continues_to_the_bit_elsewhere(strategy: Strategy, weights: str, kept: str) -> None:
    start = model(0, weights)
    one = server_optimizer(strategy, 0.3, trainable=TRAINABLE)
    assert one.state() == {}
    for seed in (1, 2):
        start = one.step(start, model(seed, weights))
    # As it comes back from a file: other arrays, read only.
    state = {
        key: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for key, array in one.state().items()
    }
    kinds = {"fedavgm": {"velocity"}, "fedadam": {"m", "v"}, "fedyogi": {"m", "v"}}.get(strategy, set())
    assert set(state) == {f"{kind}:{name}" for kind in kinds for name in TRAINABLE}
    assert {array.dtype.name for array in state.values()} <= {kept}
    other = server_optimizer(strategy, 0.3, trainable=TRAINABLE)
    other.restore(state)
    again = start
    for seed in (3, 4):
        start, again = one.step(start, model(seed, weights)), other.step(again, model(seed, weights))
        for name in start:
            assert start[name].tobytes() == again[name].tobytes()
        assert {key: array.tobytes() for key, array in one.state().items()} == {
            key: array.tobytes() for key, array in other.state().items()
        }


@pytest.mark.parametrize("strategy", STEPPING)
def test_a_state_that_was_handed_out_does_not_change_with_the_next_step(strategy: Strategy) -> None:
    optimizer = server_optimizer(strategy, trainable=TRAINABLE)
    optimizer.step(model(0), model(1))
    state = optimizer.state()
    before = {key: array.tobytes() for key, array in state.items()}
    optimizer.step(model(1), model(2))
    assert {key: array.tobytes() for key, array in state.items()} == before
    assert {key: array.tobytes() for key, array in optimizer.state().items()} != before


@pytest.mark.parametrize("strategy", STEPPING)
def test_what_was_restored_may_go_away(strategy: Strategy) -> None:
    """The file it was mapped from is removed some rounds later."""
    optimizer = server_optimizer(strategy, trainable=TRAINABLE)
    optimizer.step(model(0), model(1))
    state = {key: array.copy() for key, array in optimizer.state().items()}
    optimizer.restore(state)
    for array in state.values():
        array.fill(9)
    assert all((array != 9).all() for array in optimizer.state().values())


@pytest.mark.parametrize("strategy", STEPPING)
def test_inputs_are_not_changed(strategy: Strategy) -> None:
    start, aggregated = model(0), model(1)
    for array in [*start.values(), *aggregated.values()]:
        array.flags.writeable = False
    new = server_optimizer(strategy, trainable=TRAINABLE).step(start, aggregated)
    assert all(not np.shares_memory(new[name], start[name]) for name in TRAINABLE)
    assert all(not np.shares_memory(new[name], aggregated[name]) for name in TRAINABLE)


@pytest.mark.parametrize("strategy", ALL)
def test_a_strategy_has_defaults_of_its_own(strategy: Strategy) -> None:
    known = {name: value for name, value in vars(DEFAULTS[strategy]).items() if value is not None}
    given, left = (
        server_optimizer(strategy, **known, trainable=TRAINABLE),
        server_optimizer(strategy, trainable=TRAINABLE),
    )
    one, other = given.step(model(0), model(1)), left.step(model(0), model(1))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(
    ("strategy", "name", "value"),
    [
        ("fedavg", "learning_rate", 0.0),
        ("fedprox", "learning_rate", -1.0),
        ("fedavgm", "learning_rate", float("inf")),
        ("fedavgm", "momentum", 1.0),
        ("fedavgm", "momentum", float("nan")),
        ("fedadam", "beta_1", 1.0),
        ("fedadam", "beta_2", -0.1),
        ("fedyogi", "tau", 0.0),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(strategy: Strategy, name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{value:g}") as error:
        server_optimizer(strategy, **{name: value}, trainable=TRAINABLE)
    assert error.value.code == "server-optimizer.parameter"
    assert "--server-" + name.replace("_", "-") in error.value.message


@pytest.mark.parametrize(
    ("strategy", "name", "others"),
    [("fedavg", "momentum", "fedavgm"), ("fedadam", "momentum", "fedavgm"), ("fedavgm", "tau", "fedadam, fedyogi")],
)
def test_a_parameter_that_a_strategy_does_not_have_is_refused(strategy: Strategy, name: str, others: str) -> None:
    with pytest.raises(InputError, match=f"{strategy} does not use --server-{name}") as error:
        server_optimizer(strategy, **{name: 0.5}, trainable=TRAINABLE)
    assert error.value.code == "server-optimizer.not-taken"
    assert f"that uses it: {others}." in error.value.hint
