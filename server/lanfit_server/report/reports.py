"""All reports of a run that has ended. Each is written independently: a report that can't be written is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lanfit.errors import LanfitError
from lanfit_server.replay.baseline_runs import partner_of
from lanfit_server.report.charts import draw_run
from lanfit_server.report.html import write_html
from lanfit_server.report.predictions import Predictions
from lanfit_server.report.predictions_file import predictions_files, write_predictions
from lanfit_server.report.workbook import write_workbook
from lanfit_server.store.summary import Summary, read_summary

logger = logging.getLogger("lanfit.server")
CHART, WORKBOOK, PREDICTIONS, PAGE = "history.png", "report.xlsx", "predictions.csv", "report.html"


def write_reports(folder: Path, summary: Summary, predictions: Callable[[], Mapping[str, Predictions]]) -> list[str]:
    """Write the reports of a run into its folder; return a sentence for each one that could not be written.

    Args:
        predictions: gives those of the final model by output; none without test rows.
    """
    notes: list[str] = []

    def write(name: str, report: Callable[[Path], object], into: Path = folder) -> None:
        path, began = into / name, time.perf_counter()
        try:
            report(path)
        except (LanfitError, OSError, ImportError) as error:
            notes.append(f"{path} was not written: {error}.")
        except Exception as error:
            logger.warning("%s was not written", path, exc_info=error)
            notes.append(f"{path} was not written: {type(error).__name__}. Its log has the details.")
        else:
            logger.info("%s took %.2f s", name, time.perf_counter() - began)

    predicted: dict[str, Predictions] = {}

    def write_all_predictions(path: Path) -> None:
        predicted.update(predictions())
        for name, each in predictions_files(predicted).items():
            write_predictions(path.with_name(name), each)

    write(PREDICTIONS, write_all_predictions)
    write(WORKBOOK, lambda path: write_workbook(path, summary, predicted))
    write(CHART, lambda path: draw_run(path, summary))
    write(PAGE, lambda path: write_html(path, summary))
    if (partner := partner_of(folder)) is not None:  # its page compares both runs, too
        summary_file = partner / "summary.json"
        write(PAGE, lambda path: write_html(path, read_summary(summary_file.read_bytes())), partner)
    return notes
