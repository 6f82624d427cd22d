"""How good a confidence is: fitted to some recorded answers, tried on others. Tables for the docs, and a picture.

Usage: .venv/bin/python scripts/confidence.py --fit FILE… [--test FILE…] --policy NAME…
       [--extractor NAME] [--features] [--picture FILE.svg]

--fit and --test take recordings of `eval --record`, or summaries of them (`replay --summary`), of one model. Without
--test each answer is given a probability by a fit to the nine tenths of the others that it is not in. --features says
what each feature is worth to the last policy's fit, of which the picture is, too; it needs matplotlib.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from entropix_edge.confidence import VOTE_SIGNS, Fit
from entropix_edge.evaluation.features import SIGNS
from entropix_edge.evaluation.fitting import (
    Judged,
    calibration_error,
    cross_validation,
    left_out,
    risk_coverage,
)
from entropix_edge.evaluation.judged import fit_recorded, judged_answers
from entropix_edge.evaluation.plots import draw_coverage, draw_reliability
from entropix_edge.evaluation.samples import read_samples
from entropix_edge.evaluation.statistics import auroc
from entropix_edge.evaluation.summary import markdown_table
from entropix_edge.render.canvas import drawing, encoded, new_figure

ATTENTION = ("mean_agreement", "mean_attention_varentropy", "mean_attention_entropy", "mean_interaction_strength")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
HEAD = (
    *("policy", "answers", "with a probability", "right, %", "AUROC", "calibration error (of chance)"),
    *("Brier (base rate's)", *(f"surest {share:.0%}" for share in SHARES)),
)


def cell(interval: tuple[float, float, float] | None) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*interval) if interval else ""


def features_table(fit: Fit, fitted: list[Judged], tested: list[Judged]) -> str:
    """What each feature tells by itself, and what it adds to the fit or would take from it."""
    whole = cross_validation(fitted, tuple(fit.weights))[0]
    rows = []
    for name, sign in {**SIGNS, **VOTE_SIGNS}.items():
        own = area_of(fitted, name, sign)
        if own is None:
            continue
        others = [each for each in fit.weights if each != name]
        added = cross_validation(fitted, (*others, name))[0] - cross_validation(fitted, others)[0]
        weight = f"{fit.weights[name]:+.2f}" if name in fit.weights else ""
        rows.append((name, weight, cell(own), cell(area_of(tested, name, sign)), f"{added:+.3f}"))
    rows.sort(key=lambda row: -abs(float(row[2][:5]) - 0.5))
    head = ("feature", "weight", "AUROC, fitted on", "AUROC, kept apart", "adds to the others")
    every = [row[0] for row in rows if all(math.isfinite(each.features[row[0]]) for each in fitted)]
    together = cross_validation(fitted, every)[0]
    return (
        f"In cross-validation the fit has an AUROC of {whole:.3f}, all {len(every)} features together {together:.3f}."
        "\n\n"
        f"{markdown_table(head, rows)}"
    )


def area_of(answers: list[Judged], name: str, sign: int) -> tuple[float, float, float] | None:
    having = [each for each in answers if math.isfinite(each.features.get(name, math.nan))]
    if not having:
        return None
    return auroc([sign * each.features[name] for each in having], [each.right for each in having])


def attention_lines(fitted: list[Judged]) -> str:
    """What attention's metrics are beside the length of a reply, which they follow."""
    having = [each for each in fitted if math.isfinite(each.features[ATTENTION[0]])]
    if not having:
        return "Attention was not measured."
    places = {name: np.argsort(np.argsort([each.features[name] for each in having])) for name in (*ATTENTION, "length")}
    related = (f"{name} {np.corrcoef(places[name], places['length'])[0, 1]:+.2f}" for name in ATTENTION)
    alone, length = cross_validation(having, ATTENTION)[0], cross_validation(having, ("length",))[0]
    return (
        f"Rank correlation with the length: {', '.join(related)}. In cross-validation the four alone have an AUROC of "
        f"{alone:.3f}, the length alone {length:.3f}."
    )


def tried(fit: Fit, fitted: list[Judged], tested: list[Judged] | None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of answers that a fit would be given, by it or by fits they were left out of; which are right."""
    if tested is None:
        whole = [each for each in fitted if all(math.isfinite(each.features[name]) for name in fit.weights)]
        inside = [fit.probability(each.features) is not None for each in whole]
        probabilities, right = left_out(whole, fit.answer)
        return probabilities[inside], right[inside]
    given = [(fit.probability(each.features), each.right) for each in tested]
    kept = [(probability, right) for probability, right in given if probability is not None]
    probabilities, right = (np.array(column, np.float64) for column in zip(*kept, strict=True))
    return probabilities, right


def quality(policy: str, answers: int, probabilities: np.ndarray, right: np.ndarray) -> tuple[str, ...]:
    """How good the probabilities are where they were not fitted."""
    curve = risk_coverage(probabilities, right)
    surest = [f"{100 * curve[max(round(share * len(curve)), 1) - 1, 1]:.0f} %" for share in SHARES]
    random = np.random.default_rng(0)
    drawn = [calibration_error(probabilities, random.random(len(right)) < probabilities) for _ in range(1000)]
    return (
        policy,
        str(answers),
        f"{100 * len(right) / answers:.0f} %",
        f"{100 * right.mean():.1f}",
        cell(auroc(probabilities, right)),
        f"{calibration_error(probabilities, right):.3f} ({np.mean(drawn):.3f})",
        f"{((probabilities - right) ** 2).mean():.3f} ({right.mean() * (1 - right.mean()):.3f})",
        *surest,
    )


def draw(path: Path, probabilities: np.ndarray, right: np.ndarray) -> None:
    """The reliability diagram and the risk-coverage curve."""
    with drawing():
        figure = new_figure(8.4, 4)
        left, right_side = figure.subplots(1, 2)
        draw_reliability(left, probabilities, right)
        draw_coverage(right_side, probabilities, right)
        path.write_bytes(encoded(figure, "svg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", nargs="+", type=Path, required=True)
    parser.add_argument("--test", nargs="+", type=Path)
    parser.add_argument("--policy", nargs="+", required=True)
    parser.add_argument("--extractor", default="last-number")
    parser.add_argument("--least", type=int, default=20)
    parser.add_argument("--features", action="store_true")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    fits = [sample for path in options.fit for sample in read_samples(path)]
    tests = [sample for path in options.test or [] for sample in read_samples(path)]
    rows = []
    for policy in options.policy:
        fitted = judged_answers(fits, policy)
        tested = judged_answers(tests, policy).answers if tests else None
        fit = fit_recorded(fitted, None, answer=options.extractor, least=options.least)
        found = tried(fit, fitted.answers, tested)
        rows.append(quality(policy, len(fitted.answers if tested is None else tested), *found))
    print(markdown_table(HEAD, rows))
    if options.features:
        print(f"\n{features_table(fit, fitted.answers, tested or [])}\n\n{attention_lines(fitted.answers)}")
    if options.picture:
        draw(options.picture, *found)


if __name__ == "__main__":
    main()
