"""`entropix-edge replay`: votes counted again on what `eval --record` recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import click

from .console import console, output, print_json, print_table
from .options import takes, verbose_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..evaluation.comparison import FeatureRow, ReplayRow, Row
    from ..evaluation.escalation import EscalationRow
    from ..evaluation.pairs import PairedRow
    from ..evaluation.replay import Pool


class _ReplayOptions(NamedTuple):
    """What is counted, and how."""

    files: Annotated[
        tuple[Path, ...],
        click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)),
    ]
    policies: Annotated[
        tuple[str, ...],
        click.option(
            "--policy", "policies", multiple=True, metavar="NAME", help="Whose candidates. Repeatable. Default: all."
        ),
    ]
    rules: Annotated[
        tuple[str, ...],
        click.option(
            "--rule",
            "rules",
            multiple=True,
            metavar="NAME",
            help="When to stop: fixed:K candidates, posterior:N (the leader is the favourite with a probability of "
            "0.95) or ahead:N (two at a time, until it is two ahead), N at most. Repeatable. Default: all.",
        ),
    ]
    votes: Annotated[
        tuple[str, ...],
        click.option(
            "--vote",
            "votes",
            multiple=True,
            default=("equal",),
            metavar="NAME",
            help="How votes are counted: equal, plain (equal, ties to the answer that came first), probability (by "
            "the model's fit), confidence, FEATURE[:LAMBDA] (e to the power of the standardised feature) or "
            "best:FEATURE (no vote). Repeatable; gains are over the first. Default: equal.",
        ),
    ]
    ties: Annotated[
        str,
        click.option(
            "--ties",
            default="mean_entropy",
            metavar="FEATURE",
            help="By which ties are broken, for the surer candidate. Default: mean_entropy.",
        ),
    ]
    first: Annotated[
        str | None,
        click.option(
            "--first", metavar="POLICY", help="Let this policy's candidate go before the others of each problem."
        ),
    ]
    over: Annotated[
        str | None,
        click.option(
            "--over",
            metavar="POLICY",
            help="Gains at equal tokens are over fixed numbers of this policy's candidates. Default: of its own.",
        ),
    ]
    subsets: Annotated[
        int,
        click.option(
            "--subsets",
            type=click.IntRange(1, 10_000),
            default=50,
            metavar="N",
            help="Random orders of a problem's candidates. Default: 50.",
        ),
    ]
    features: Annotated[
        bool, click.option("--features", is_flag=True, help="How well each feature tells right from wrong, instead.")
    ]
    against: Annotated[
        str | None,
        click.option(
            "--against",
            metavar="POLICY",
            help="Each policy's first reply beside this policy's, on the problems that both answered, instead; with "
            "--rule also what its candidates vote for.",
        ),
    ]
    escalate: Annotated[
        Path | None,
        click.option(
            "--escalate",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            metavar="FILE",
            help="A larger model's recording on the same problems: what asking it for the least sure replies gives "
            "and costs, instead.",
        ),
    ]
    by: Annotated[
        str,
        click.option(
            "--by",
            default="summed_entropy",
            metavar="FEATURE",
            help="With --escalate: which replies are least sure. Default: summed_entropy.",
        ),
    ]
    summary: Annotated[
        Path | None,
        click.option(
            "--summary",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write a line a candidate, without its tokens: small, and `replay` reads it like a recording.",
        ),
    ]
    form: Annotated[
        Literal["table", "md", "json"],
        click.option(
            "--format",
            "form",
            type=click.Choice(["table", "md", "json"]),
            default="table",
            help="How the report is printed. Default: table.",
        ),
    ]


@click.command("replay")
@takes(options=_ReplayOptions)
@verbose_option
def command(options: _ReplayOptions) -> None:
    """Count votes again on recorded candidates, without decoding.

    FILES are recordings of `eval --record`, summaries of them, or results with candidates, all of one model. For each
    stopping rule and each way to count votes: how often the answer is right and what it costs, over random orders of
    each problem's candidates, with intervals over problems; and what is gained over a fixed number of candidates at
    equal tokens.
    """
    from ..evaluation.replay import pools
    from ..evaluation.samples import read_samples, write_summary

    samples = [sample for path in options.files for sample in read_samples(path)]
    if not samples:
        raise click.UsageError("there is no candidate in these files: record some with eval --record")
    if options.summary:
        write_summary(options.summary, samples)
        console().print(f"Summary: {options.summary}", markup=False)
        return
    found = pools(samples)
    chosen = [_named(found, name) for name in options.policies] or found
    if options.against:
        _report(*_pairs(chosen, _named(found, options.against), options), options.form)
    elif options.escalate:
        _report(*_escalation(chosen, options.escalate, options.by), options.form)
    elif options.features:
        _report(*_features(chosen), options.form)
    else:
        _report(*_votes(found, chosen, options), options.form)


def _named(found: Sequence[Pool], name: str) -> Pool:
    for pool in found:
        if pool.policy == name:
            return pool
    known = ", ".join(pool.policy for pool in found)
    raise click.UsageError(f"there are no candidates of policy {name!r} in these files: there are those of {known}")


def _votes(
    found: Sequence[Pool], chosen: Sequence[Pool], options: _ReplayOptions
) -> tuple[list[ReplayRow], tuple[str, ...], str]:
    from ..evaluation.comparison import COLUMNS, compare
    from ..evaluation.replay import ballot, rule

    rows = compare(
        chosen,
        [rule(name) for name in options.rules],
        [ballot(name, options.ties) for name in options.votes],
        first=_named(found, options.first) if options.first else None,
        over=_named(found, options.over) if options.over else None,
        subsets=options.subsets,
    )
    note = "In brackets: 95 % intervals over problems. Candidates, decoded tokens and seconds: a problem."
    return rows, COLUMNS, note


def _features(chosen: Sequence[Pool]) -> tuple[list[FeatureRow], tuple[str, ...], str]:
    from ..evaluation.comparison import FEATURE_COLUMNS, feature_rows

    rows = [row for pool in chosen for row in feature_rows(pool)]
    return rows, FEATURE_COLUMNS, "In brackets: 95 % intervals over problems. Below 0.5: the surer, the wronger."


def _pairs(
    chosen: Sequence[Pool], other: Pool, options: _ReplayOptions
) -> tuple[list[PairedRow], tuple[str, ...], str]:
    from ..evaluation.pairs import COLUMNS, pair
    from ..evaluation.replay import ballot, rule

    if len(options.votes) > 1:
        raise click.UsageError(f"--against counts votes in one way: name one of {', '.join(options.votes)} with --vote")
    count = ballot(options.votes[0], options.ties)
    votes = [None, *((rule(name), count) for name in options.rules)]
    rows = [row for pool in chosen for vote in votes if (row := pair(pool, other, vote))]
    columns = tuple(f"over {other.policy}" if name == "over" else name for name in COLUMNS)
    return rows, columns, "In brackets: 95 % intervals over problems. Decoded tokens: a problem."


def _escalation(chosen: Sequence[Pool], path: Path, feature: str) -> tuple[list[EscalationRow], tuple[str, ...], str]:
    from ..evaluation.escalation import COLUMNS, escalate
    from ..evaluation.replay import check_feature, pools
    from ..evaluation.samples import read_samples

    if len(chosen) != 1:
        raise click.UsageError(f"--escalate needs one policy: name one of {len(chosen)} with --policy")
    larger = _named(pools(read_samples(path)), chosen[0].policy)
    rows = escalate(chosen[0], larger, check_feature(feature))
    return rows, COLUMNS, "In brackets: 95 % intervals over problems. Decoded tokens and seconds: a problem, of both."


def _report(rows: Sequence[Row], columns: tuple[str, ...], note: str, form: str) -> None:
    from ..evaluation.comparison import markdown

    if form == "json":
        print_json({"rows": [row.as_record() for row in rows]}, indent=2)
    elif form == "md":
        click.echo(markdown(rows, columns))
    else:
        print_table(columns, [row.cells() for row in rows], left=3)
        output().print(note, style="dim", soft_wrap=True)
