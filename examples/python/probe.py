"""A scikit-learn pipeline on a plugin's embeddings, beside the plugin's own head.

    host phantom lung_nodule --count 40 --seed 1 --out phantoms
    host phantom lung_nodule --count 40 --seed 2 --out unseen
    python examples/python/probe.py phantoms/table.csv unseen/table.csv

The pipeline learns on the first table and both are measured on the second, by the same figures as `host eval`.
"""

from __future__ import annotations

import argparse
from typing import Any

import anymc3d
import pandas as pd
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def probe(train: str, test: str, adapted: bool) -> dict[str, Any]:
    """Figures of a logistic regression on mean and attention-pooled embeddings."""
    learn, judge = pd.read_csv(train), pd.read_csv(test)
    folds = min(5, int(learn["nodule"].value_counts().min()))
    pipeline: Any = make_pipeline(StandardScaler(), LogisticRegressionCV(cv=folds, max_iter=2000))
    pipeline.fit(anymc3d.features(train, plugin="lung_nodule", adapted=adapted), learn["nodule"])
    scores = pipeline.predict_proba(anymc3d.features(test, plugin="lung_nodule", adapted=adapted))[:, 1]
    predictions = pd.DataFrame({"case": judge["case"], "nodule": judge["nodule"], "p_nodule": scores})
    return anymc3d.evaluate(predictions=predictions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train", help="table that the pipeline learns on")
    parser.add_argument("test", help="table that both are measured on")
    given = parser.parse_args()
    host = anymc3d.Host(plugins=["lung_nodule"])
    all_figures = {
        "the plugin's head": anymc3d.evaluate(host, given.test),
        "probe on the plugin's embeddings": probe(given.train, given.test, adapted=True),
        "probe on the frozen backbone": probe(given.train, given.test, adapted=False),
    }
    for name, figures in all_figures.items():
        low, high = figures["macro_auroc_bootstrap_ci95"]
        print(f"{name:<34} AUROC {figures['macro_auroc']:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
