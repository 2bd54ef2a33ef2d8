"""A check's findings as a table, as Markdown, as JUnit's XML and as JSON; and the command."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from benchmark import check, session, table
from benchmark.check import Finding, Measurements, Report
from benchmark.command_line import given_path
from ecoroute_mcp import refresh
from ecoroute_mcp.sci import EcoRouteError

EXAMPLES = """examples:
  python -m benchmark check --budget carbon.yaml --folder measurements
  python -m benchmark check --budget carbon.yaml --folder measurements --baseline before/measurements
  python -m benchmark check --budget carbon.yaml --format markdown --output "$GITHUB_STEP_SUMMARY"
  python -m benchmark check --budget carbon.yaml --format junit --output carbon.xml

carbon.yaml:
  zone: SWE
  budgets:
    - name: chat
      match: {device: NVIDIA H200, model: Qwen3-8B, precision: [bf16, nf4], batch: 16}
      max_g_per_million_tokens: 10
      max_j_per_token: 0.5
      min_tokens_per_s: 1000
  regression:
    baseline: baseline/
    tolerance: 0.02

Exit status: 0 when all is well, 1 when a budget is exceeded or a configuration regressed beyond noise, 2 when the
question cannot be answered, which is no pass."""

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&#@])")
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
COLUMNS = (
    "check", "device", "configuration", "result", "figure", "now", "limit or baseline", "worse by", "allowed", "why"
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget", type=given_path, required=True, metavar="FILE", help="the rules: zone, budgets, regression"
    )
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "--folder", type=given_path, metavar="FOLDER", help="check its *.jsonl files (default: where run writes)"
    )
    rows.add_argument("--file", type=given_path, nargs="+", metavar="FILE", help="check these files of measurements")
    parser.add_argument(
        "--baseline",
        type=given_path,
        metavar="PLACE",
        help="folder or file of earlier rows (default: regression.baseline)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--format", choices=sorted(FORMATS), default="text", help="of the report (default: text)")
    form.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument(
        "--output", type=given_path, metavar="FILE", help="write the report here; the text is printed as well"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check and report. Returns 1 where something fails, else 0."""
    rules = check.read_rules(arguments.budget)
    now = Measurements.read(*(arguments.file or [arguments.folder or session.measurements()]))
    place: Path | None = arguments.baseline
    if place is None and rules.regression is not None:
        if rules.regression.baseline is None:
            raise EcoRouteError(
                f"{arguments.budget}: no baseline to compare with: set regression.baseline or --baseline"
            )
        place = arguments.budget.parent / rules.regression.baseline
    report = check.check(
        rules,
        now,
        None if place is None else Measurements.read(place),
        catalogue=refresh.read(refresh.packaged_data()),
        shipped=check.shipped_rows(),
    )
    if arguments.output is not None:
        try:
            arguments.output.write_text(FORMATS[arguments.format](report), encoding="utf-8")
        except OSError as error:
            raise EcoRouteError(f"cannot write {arguments.output} ({error.strerror}): name another file") from error
    if arguments.output is not None or arguments.format == "text":
        show(report)
    else:
        print(FORMATS[arguments.format](report), end="")
    return 1 if report.failed else 0


def show(report: Report) -> None:
    """Print all findings, and what fails in words at the end."""
    table.show(headline(report), COLUMNS, [_cells(finding) for finding in report.findings])
    for note in _notes(report):
        print(note)
    for finding in report.findings:
        if finding.fails or finding.warns:
            print(f"{'FAILED' if finding.fails else 'warning'}: {sentence(finding)}")


def headline(report: Report) -> str:
    """What came out, in a line."""
    fails = sum(finding.fails for finding in report.findings)
    warns = sum(finding.warns for finding in report.findings)
    return (
        f"Carbon check {'FAILED' if report.failed else 'passed'}: {fails} failed, {warns} to look at, "
        f"{len(report.findings) - fails - warns} well"
    )


def sentence(finding: Finding) -> str:
    """A finding in words."""
    where = "" if finding.device is None else f" on {finding.device}"
    text = f"{finding.check}: {finding.configuration}{where}: {finding.status}"
    if finding.value is not None and finding.against is not None and finding.worse is not None:
        what = "baseline" if finding.check == "regression" else "limit"
        side = "worse" if finding.worse > 0 else "better"
        text += (
            f", {finding.value:.4g} {finding.unit} against the {what} of {finding.against:.4g}, "
            f"{abs(finding.worse):.1%} {side}"
        )
    if finding.allowed is not None:
        text += f" ({finding.allowed:.1%} is allowed)"
    return f"{text}; {finding.why}" if finding.why else text


def _notes(report: Report) -> list[str]:
    grid = report.zone
    intensity = grid.intensity_g_per_kwh
    notes = [
        f"zone {grid.zone}: {intensity.mid:.4g} g CO2e/kWh ({intensity.low:.4g} to {intensity.high:.4g}), the same for "
        "all rows, so its doubt is not in the comparisons",
        *report.notes,
    ]
    if report.compared:
        notes.append(
            f"regression: {report.compared} compared, at a confidence of {report.confidence:.4g} for all together"
        )
    return notes


def _cells(finding: Finding) -> tuple[str | None, ...]:
    result = {(True, False): "FAILED: ", (False, True): "warning: "}.get((finding.fails, finding.warns), "")
    return (
        finding.check,
        finding.device,
        finding.configuration,
        result + finding.status,
        finding.unit,
        table.number(finding.value, ".4g"),
        table.number(finding.against, ".4g"),
        table.number(finding.worse, "+.1%"),
        table.number(finding.allowed, ".1%"),
        finding.why,
    )


def text(report: Report) -> str:
    """What :func:`show` prints into a pipe."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        show(report)
    return printed.getvalue()


def markdown(report: Report) -> str:
    """For a job's summary: what fails or is to be looked at first, all else folded away."""
    open_findings = [finding for finding in report.findings if finding.fails or finding.warns]
    others = [finding for finding in report.findings if not (finding.fails or finding.warns)]
    parts = [f"## {_plain(headline(report))}"]
    if open_findings:
        parts.append(_markdown_table(open_findings))
    if others:
        table_of_others = _markdown_table(others)
        parts.append(f"<details><summary>{len(others)} as they should be</summary>\n\n{table_of_others}\n\n</details>")
    parts.append("\n".join(f"- {_plain(note)}" for note in _notes(report)))
    return "\n\n".join(parts) + "\n"


def _markdown_table(findings: Iterable[Finding]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    rows += [tuple(_plain(cell or "") for cell in _cells(finding)) for finding in findings]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plain(cell: str) -> str:
    """A text that means only itself in a cell of a Markdown table."""
    return _MARKUP.sub(r"\\\1", " ".join(cell.split()))


def junit(report: Report) -> str:
    """XML as surefire writes it: a suite for each check, a case for each configuration and figure."""
    root = ET.Element("testsuites", {"name": "carbon check", **_counts(report.findings), "time": "0"})
    for name in dict.fromkeys(finding.check for finding in report.findings):
        findings = [finding for finding in report.findings if finding.check == name]
        suite = ET.SubElement(root, "testsuite", {"name": _xml(name), **_counts(findings), "time": "0"})
        for finding in findings:
            case = ET.SubElement(
                suite,
                "testcase",
                {
                    "name": _xml(f"{finding.configuration} [{finding.unit}]"),
                    "classname": _xml(finding.device or "any device"),
                    "time": "0",
                },
            )
            said = _xml(sentence(finding))
            if finding.fails:
                ET.SubElement(case, "failure", {"message": said, "type": finding.status}).text = said
            elif finding.status in SKIPPED:
                ET.SubElement(case, "skipped", {"message": said})
            else:
                ET.SubElement(case, "system-out").text = said
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


SKIPPED = check.UNJUDGED | {"new", "vanished", "not measured again"}


def _counts(findings: Iterable[Finding]) -> dict[str, str]:
    findings = list(findings)
    return {
        "tests": str(len(findings)),
        "failures": str(sum(finding.fails for finding in findings)),
        "errors": "0",
        "skipped": str(sum(not finding.fails and finding.status in SKIPPED for finding in findings)),
    }


def _xml(value: str) -> str:
    """XML has no place for most control characters, not even escaped."""
    return _NOT_IN_XML.sub("\ufffd", value)


def as_json(report: Report) -> str:
    """Every figure, for a program. Shares are not percent."""
    intensity = report.zone.intensity_g_per_kwh
    document = {
        "failed": report.failed,
        "zone": report.zone.zone,
        "intensity_g_per_kwh": {"low": intensity.low, "mid": intensity.mid, "high": intensity.high},
        "confidence": report.confidence,
        "compared": report.compared,
        "noise": asdict(report.noise),
        "findings": [asdict(finding) for finding in report.findings],
        "notes": list(report.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {"text": text, "markdown": markdown, "junit": junit, "json": as_json}
