#!/usr/bin/env python3
"""Writes the expected values of test_metrics.cpp with scikit-learn and SciPy: random tables with ties and missing labels."""

import json
import pathlib

import numpy
import scipy
import scipy.stats
import sklearn
from sklearn import metrics

TASKS = 4


def table(values):
    return [[None if numpy.isnan(v) else float(v) for v in row] for row in values]


def accuracy(labels, predictions):
    return metrics.accuracy_score(labels, predictions > 0.5)


def both_classes(metric):
    """scikit-learn gives a number (and a warning) for one class."""
    return lambda labels, predictions: metric(labels, predictions) if len(set(labels)) == 2 else None


def rmse(labels, predictions):
    return metrics.mean_squared_error(labels, predictions) ** 0.5


METRICS = {
    "classification": {"roc_auc": both_classes(metrics.roc_auc_score), "pr_auc": both_classes(metrics.average_precision_score),
                       "accuracy": accuracy},
    "regression": {"rmse": rmse, "mae": metrics.mean_absolute_error, "r2": metrics.r2_score,
                   "spearman": lambda labels, predictions: scipy.stats.spearmanr(labels, predictions).statistic},
}


def main():
    random = numpy.random.default_rng(20)
    cases = []
    for kind, rows, digits in (("classification", 60, 1), ("classification", 90, 3), ("regression", 60, 1), ("regression", 90, 3)):
        latent = random.normal(size=(rows, TASKS))
        noisy = latent + random.normal(size=(rows, TASKS))
        if kind == "classification":
            labels = (noisy > 0.7).astype(float)
            predictions = numpy.round(1 / (1 + numpy.exp(-latent)), digits)
            labels[:, 2] = 0  # one class only
        else:
            labels, predictions = numpy.round(noisy - 3, digits), numpy.round(latent - 3, digits)
        labels[random.random((rows, TASKS)) < 0.3] = numpy.nan
        expected = {}
        for name, metric in METRICS[kind].items():
            present = [~numpy.isnan(labels[:, task]) for task in range(TASKS)]
            expected[name] = [metric(labels[here, task], predictions[here, task]) for task, here in enumerate(present)]
        cases.append({"labels": table(labels), "predictions": table(predictions), "expected": expected})
    made = f"made by make_expected_metrics.py with scikit-learn {sklearn.__version__}, SciPy {scipy.__version__}"
    text = json.dumps({"made": made, "cases": cases}, separators=(",", ":"))
    (pathlib.Path(__file__).parent / "data/metrics.json").write_text(text.replace('{"labels"', '\n{"labels"') + "\n")


main()
