"""`report.html`: what it says agrees with the summary and with scikit-learn, and nothing in it is executed."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from test_workbook import client, round_facts, summary

from lanfit.data.labels import Target
from lanfit_server.report.html import html_of, write_html
from lanfit_server.report.predictions import Predictions
from lanfit_server.report.predictions_file import write_predictions

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_outcome_comes_first_with_all_digits(tmp_path: Path) -> None:
    made = summary()
    page = Page(html_of(made, tmp_path))
    values = [float(str(attributes["value"])) for tag, attributes in page.tags if tag == "data"]
    assert made.final is not None
    assert values[:2] == pytest.approx(list(made.final.metrics.values()), abs=1e-9)
    assert page.text.index("Run 20260101-120000") < page.text.index("Curves") < page.text.index("Clients")


def test_the_confusion_matrix_is_that_of_scikit_learn(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y, outputs = random.integers(0, 3, 200), random.dirichlet(np.ones(3), 200).astype(np.float32)
    write_predictions(tmp_path / "predictions.csv", Predictions(Target.CLASSES, y, outputs, ("b", "a", "c")))
    text = html_of(summary(), tmp_path)
    table = text[text.index('class="matrix"') :]
    assert re.findall(r'scope="row">(\w)<', table)[:3] == ["b", "a", "c"], "in the order of the model's outputs"
    cells = [int(cell) for cell in re.findall(r"<td[^>]*>(\d+)</td>", table)[:9]]
    assert cells == confusion_matrix(y, outputs.argmax(1)).ravel().tolist()


def charts_in(text: str) -> dict[str, list[str]]:
    """The charts of a report by their titles: the kinds of lines in each, faint ones left out."""
    found = {}
    for title, lines in re.findall(r"<figure><h3>(.*?)</h3>(.*?)</figure>", text, re.DOTALL):
        assert title not in found
        kinds = re.findall(r'<(?:polyline|circle) class="(\w+)"', lines)
        found[title] = [kind for kind in kinds if kind != "faint"]
    return found


def key_in(text: str) -> list[str]:
    """The key of the curves."""
    start = text.index('class="key"')
    return [output.strip() for output in re.findall(r"</svg>([^<]+)</span>", text[start : text.index("</p>", start)])]


@pytest.mark.parametrize("count", [1, 3])
def test_training_validation_and_the_global_model_of_rounds_are_lines_of_one_chart(tmp_path: Path, count: int) -> None:
    trained = {"loss": 0.8, "val_loss": 0.9, "accuracy": 0.4, "val_accuracy": 0.3}
    rounds = tuple(
        round_facts(n, training=trained, metrics={"loss": 0.7, "accuracy": 0.5}, validation={"a": {"loss": 1.0}})
        for n in range(1, count + 1)
    )
    text = html_of(summary(method="federated", rounds=rounds), tmp_path)
    assert charts_in(text) == {name: ["training", "validation", "global"] for name in ("loss", "accuracy")}
    wanted = ["training, mean of the clients", "validation, mean of the clients", "global model"]
    assert key_in(text) == [*wanted, "global model, on each client"]


def test_the_key_of_curves_names_only_lines_that_are_drawn(tmp_path: Path) -> None:
    text = html_of(summary(rounds=(round_facts(training={"loss": 0.8}, metrics={"loss": 0.7}),)), tmp_path)
    assert charts_in(text) == {"loss": ["training", "global"]}
    assert key_in(text) == ["training, mean of the clients", "global model"]


def test_training_and_validation_of_epochs_are_lines_of_one_chart(tmp_path: Path) -> None:
    history = {"val_mae": [1.0, 2.0], "accuracy": [0.1, 0.2], "loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}
    text = html_of(summary(clients=(client("lab-1", history=history), client("lab-2", history=history))), tmp_path)
    assert charts_in(text) == {"loss": ["training", "validation"], "mae": ["validation"], "accuracy": ["training"]}
    assert key_in(text) == ["training", "validation", "each training"]


def test_nothing_that_a_client_says_is_markup(tmp_path: Path) -> None:
    evil = client(
        EVIL, backend=EVIL, device=EVIL, status=EVIL, errors=(EVIL,), metrics={EVIL: 1.0}, history={EVIL: [1.0, 2.0]}
    )
    (tmp_path / "job.toml").write_text(f"# {EVIL}")
    (tmp_path / "predictions.csv").write_text(f'row,true class,predicted class\n1,a,"{EVIL.replace(chr(34), "")}"\n')
    text = html_of(summary(clients=(evil, evil), error=EVIL), tmp_path)
    page = Page(text)
    assert "alert(1)" in page.text
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "link", "a", "object"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_it_needs_no_network_and_allows_no_script(tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", summary())
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "url(" not in text
    assert not [name for _, found in Page(text).tags for name in found if name in ("src", "href")]
    assert "default-src 'none'" in text.replace("&#x27;", "'")
