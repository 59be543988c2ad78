"""Rows with a known separation: no model is scanned."""

import numpy as np

from auditor.bench.rows import Baseline, Row, Truth

ATTACKS = ("square", "blended", "warp", "noise")


def row(index, bad, shift=1.0, samples=500, rng=None, **more):
    """A row; `shift` is how much larger the log gaps of backdoored models are."""
    rng = rng or np.random.default_rng(index)

    def near(mean):
        return float(mean + 0.3 * rng.standard_normal())

    features = {"about.classes": 10.0, "about.side": 28.0}
    features |= {
        "data_free.margin.z": near(3 + 2 * shift * bad),
        "data_free.margin.p": 0.01 if bad and shift else 0.3,
        "data_free.margin.target": 3.0,
        "data_free.head.target": 3.0 if bad and shift else 4.0,
        "data_free.head.mean.z": near(2),
        "data_free.head.norm.z": near(2),
        "data_free.head.apart.z": near(2),
    }
    for family in ("patch", "additive", "smooth"):
        prefix = f"inversion.{family}."
        features |= {
            prefix + "log_gap": near(0.3 + shift * bad),
            prefix + "log_relative_gap": near(0.3 + shift * bad),
            prefix + "log_spread": near(0.5 + shift * bad),
            prefix + "anomaly": near(2 + shift * bad),
            prefix + "asr": 0.95,
            prefix + "control": 0.1,
            prefix + "follows": 0.2,
            prefix + "half": near(0.4),
            prefix + "repeat": near(0.6),
            prefix + "compact": near(0.5),
        }
    features["inversion.agree"] = float(rng.random() < (0.8 if bad and shift else 0.3))
    groups = ("margin", "mean", "apart", "faint", "trigger")
    for name in ("score", "lead", "clear", *groups):
        features[f"consensus.{name}"] = near(1 + 2 * shift * bad)
        features[f"data_free.consensus.{name}"] = near(1 + 2 * shift * bad)
    features |= {"consensus.agree": 0.5, "consensus.target": 3.0, "shifts.merit": 0.0}
    features["transforms.lead"] = near(0.5 + shift * bad)
    measures = {"margin": (0.5, -1.25, 2.0), "patch": (-0.5, None, 1.0)}
    clean = "adversarial" if index % 4 == 1 else "clean"
    truth = Truth(
        "backdoored" if bad else clean,
        ("cnn", "mlp", "bn-cnn")[index % 3],
        ("mnist", "digits")[(index // 2) % 2],
        10_000 + index,
        ATTACKS[(index // 2) % 4] if bad else "-",
        "all-to-one" if bad else "-",
        (3,) if bad else (),
        1.0,
        0.97,
    )
    values = {
        "status": {"data-free": "passed", "inversion": "flagged" if bad else "passed"},
        "severity": "high" if bad and shift else "",
        "named": 3,
        "seconds": 5.0 + index % 7,
        "passes": 50_000,
        "features": features,
        "measures": measures,
        "baselines": {"mm-bd": Baseline(float(bad) + rng.random(), bad, 3, 0.5, 3600)},
    }
    return Row(f"m{index}.onnx", "0" * 64, "onnx", samples, 0, truth, **{**values, **more})


def rows(count=48, shift=1.0, samples=500):
    """Half of them backdoored."""
    rng = np.random.default_rng(0)
    return [row(i, i % 2 == 0, shift, samples, rng) for i in range(count)]
