"""Whether the tests of the Zed extension notice what they are there for: `python tests/zed/mutants.py`.

Each mutant is one fault put into a copy of zed-extension/src. The copy is built to a component, and tests/zed is run on
it with ZED_COMPONENT: the mutant is killed if a test fails, and survives if none does. The source as it is goes first,
and must pass. Ends with 0 only if every mutant is killed. Needs PyPI's wasmtime, jsonschema and pytest beside this
package, and a Rust toolchain with the target wasm32-wasip2; a mutant takes some seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "zed-extension"
TESTS = "tests/zed/test_extension.py"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault: ``old``, which stands exactly once in ``file`` of src, becomes ``new``."""

    kind: str
    name: str
    file: str
    old: str
    new: str

    def applied(self, source: str) -> str:
        """Raises ValueError where the source has changed so that it is not clear what to change."""
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: {self.file} holds {self.old!r} {found} times: bring the mutant up to date")
        return source.replace(self.old, self.new)


def _of(kind: str, file: str, *faults: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(kind=kind, file=file, name=name, old=old, new=new) for name, old, new in faults]


MUTANTS = [
    *_of(
        "wrong id",
        "lib.rs",
        ("the server has another id", 'SERVER: &str = "ecoroute"', 'SERVER: &str = "eco-route"'),
        ("the slash command has another name", 'SLASH_COMMAND: &str = "eco"', 'SLASH_COMMAND: &str = "echo"'),
        ("every id is taken for ours", "if asked == ours {", "if asked == ours || !asked.is_empty() {"),
    ),
    *_of(
        "wrong command",
        "launch.rs",
        ("the server's program is a bare name", "Command::new(&self.program).args(&self.arguments)",
         'Command::new("ecoroute").args(&self.arguments)'),
        ("uvx fetches another package", '"ecoroute-mcp", "ecoroute"]', '"ecoroute", "ecoroute"]'),
        ("another program is looked for", 'locate("ecoroute")?', 'locate("eco")?'),
        ("the last path found is taken", "paths.lines().next()", "paths.lines().last()"),
        ("a relative path is taken", ".filter(|path| is_absolute(path))", ""),
        ("Windows is asked in the Unix way", 'Command::new("where.exe").arg(format!("$PATH:{name}"))',
         'Command::new("sh").args(["-c", &format!("command -v {name}")])'),
    ),
    *_of(
        "wrong arguments",
        "launch.rs",
        ("the server is not told to serve", '.arg("mcp")', '.arg("health")'),
        ("a task may pass for an option", '["recommend", "--", task]', '["recommend", task]'),
        ("the server gets no settings", '.arg("mcp").envs(self.environment.clone())', '.arg("mcp")'),
        ("the shell beats the settings",
         ".envs(shell_environment)\n            .envs(self.environment.clone())",
         ".envs(self.environment.clone())\n            .envs(shell_environment)"),
        ("Python is not told to print UTF-8", '.env("PYTHONUTF8", "1")', ""),
    ),
    *_of(
        "wrong arguments",
        "lib.rs",
        ("the words of a task run together", 'words.join(" ")', "words.concat()"),
        ("a blank task is passed on", "task.trim().is_empty()", "task.is_empty()"),
    ),
    *_of(
        "wrong precedence",
        "launch.rs",
        ("the PATH beats the settings",
         "match &settings.command {\n            Some(path) => Some(path.clone()),\n"
         '            None => locate("ecoroute")?,\n        }',
         'match locate("ecoroute")? {\n            Some(path) => Some(path),\n'
         "            None => settings.command.clone(),\n        }"),
        ("uvx beats the PATH", "let (program, arguments) = match own {",
         'let own = if locate("uvx")?.is_some() { None } else { own };\n'
         "        let (program, arguments) = match own {"),
    ),
    *_of(
        "wrong precedence",
        "lib.rs",
        ("the settings are not asked for", "ContextServerSettings::for_project(SERVER, project)?.settings",
         "ContextServerSettings::for_project(SERVER, project).map(|_| None)?"),
        ("/eco forgets what the server was started with", "self.launches.insert(worktree, launch.clone());",
         "let _ = (worktree, launch.clone());"),
    ),
    *_of(
        "swallowed error",
        "launch.rs",
        ("a program that is missing is taken to be there", 'locate("uvx")?.ok_or(NOT_FOUND)?',
         'locate("uvx")?.unwrap_or("/usr/bin/uvx".to_string())'),
        ("a search that fails is taken for a missing program",
         '_ => Err(format!("the PATH could not be searched: {}", '
         "String::from_utf8_lossy(&output.stderr).trim())),",
         "_ => Ok(None),"),
        ("a search that cannot be made is taken for a missing program", "located(locating(os, name).output()?)",
         "locating(os, name).output().map_or(Ok(None), located)"),
    ),
    *_of(
        "swallowed error",
        "lib.rs",
        ("settings that are wrong are passed over", "Settings::read(settings)?",
         "Settings::read(settings).unwrap_or_default()"),
        ("a command that cannot be run says nothing",
         'output.map_err(|problem| format!("ecoroute could not be run: {problem}"))?',
         "output.unwrap_or(zed::process::Output { status: Some(0), stdout: b\"**\".to_vec(), stderr: Vec::new() })"),
    ),
    *_of(
        "swallowed error",
        "answer.rs",
        ("a failing command's answer is shown", "Some(0) => {}", "Some(0 | 1 | 3) => {}"),
        ("a killed command's answer is shown", "Some(0) => {}", "Some(0) | None => {}"),
        ("what a failing command said is dropped", "from_utf8_lossy(&output.stderr)", "from_utf8_lossy(&[])"),
    ),
    *_of(
        "swallowed error",
        "settings.rs",
        ("a setting that is not known is passed over", "#[serde(deny_unknown_fields)]", ""),
        ("an empty region is passed on", "settings.region.as_deref().is_some_and(is_blank)",
         "settings.region.as_deref().is_some_and(|_| false)"),
        ("a list of two models in one string is passed on", "is_blank(name) || name.contains(',')", "is_blank(name)"),
    ),
    *_of(
        "swallowed timeout",
        "launch.rs",
        ("the clock runs ten times too long", "DEADLINE_S: u32 = 60", "DEADLINE_S: u32 = 600"),
        ("the time is up and the command runs on", "trap 'kill \"$job\"; exit 124' ALRM", "trap 'exit 124' ALRM"),
        ("the time is up and that is no error", "exit 124' ALRM", "exit 0' ALRM"),
        ("no clock is set", "kill -s ALRM $$", "true"),
    ),
    *_of(
        "swallowed timeout",
        "answer.rs",
        ("a command stopped in time passes for one that answered", "Some(0) => {}", "Some(0 | TIMED_OUT) => {}"),
    ),
    *_of(
        "swallowed rubbish",
        "answer.rs",
        ("any text passes for a recommendation", '!text.starts_with("**")', 'text.starts_with("nothing at all")'),
        ("bytes that are no text are shown",
         'String::from_utf8(output.stdout).map_err(|_| "what ecoroute printed is not UTF-8")?',
         "String::from_utf8_lossy(&output.stdout).into_owned()"),
        ("nothing passes for a recommendation", "return Err(\"ecoroute printed nothing\".to_string());",
         "return Ok(SlashCommandOutput { text, sections: Vec::new() });"),
    ),
    *_of(
        "missing section",
        "answer.rs",
        ("an answer has no sections", "let sections = sections(&text);", "let sections = Vec::new();"),
        ("the last section is missing", 'text.split("\\n\\n") {',
         'text.split("\\n\\n").take(text.matches("\\n\\n").count()) {'),
        ("a section begins one byte too late", "start += paragraph.len() + 2", "start += paragraph.len() + 3"),
        ("a section's label keeps its marks", '.replace("**", "")', '.replace("****", "")'),
        ("the text is cut", "Ok(SlashCommandOutput { text, sections })",
         "Ok(SlashCommandOutput { text: text.trim_end().to_string(), sections })"),
    ),
    *_of(
        "wrong completion",
        "answer.rs",
        ("what is offered holds what was typed anywhere", "opening.starts_with(&typed.to_lowercase())",
         "opening.contains(&typed.to_lowercase())"),
        ("capitals are not known", "typed.to_lowercase()", "typed.to_string()"),
        ("the second word is completed too", "_ => return Vec::new(),", "[.., word] => word,"),
        ("what is put in is the label", "new_text: opening.to_string()", 'new_text: format!("{opening}…")'),
        ("the command runs before the task is written", "run_command: false", "run_command: true"),
    ),
    *_of(
        "wrong configuration",
        "settings.rs",
        ("the schema allows anything", "schemars::schema_for!(Settings).as_value().to_string()", '"{}".to_string()'),
        ("candidates are joined by another sign", 'names.join(",")', 'names.join(" ")'),
        ("the region goes into another variable", '("ECOROUTE_REGION", &self.region)', '("ECO_REGION", &self.region)'),
    ),
    *_of(
        "wrong configuration",
        "lib.rs",
        ("the default settings are the instructions", "../configuration/default_settings.jsonc",
         "../configuration/installation_instructions.md"),
    ),
]  # fmt: skip


def _built(crate: Path, target: Path) -> Path:
    build = ["cargo", "build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2"]
    command = [*build, "--target-dir", str(target)]
    done = subprocess.run(command, cwd=crate, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the crate does not build, which proves nothing:\n{done.stderr}")
    return target / "wasm32-wasip2" / "release" / "ecoroute.wasm"


def _failures(component: Path, report: Path) -> list[str]:
    """The first test that fails on this component, if one does."""
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--junitxml", str(report), TESTS],
        cwd=ROOT,
        env={**os.environ, "ZED_COMPONENT": str(component)},
        capture_output=True,
        text=True,
        check=False,
    )
    cases = ElementTree.parse(report).findall(".//testcase") if report.is_file() else []
    skipped = [case for case in cases if case.find("skipped") is not None]
    failed = [case.get("name", "") for case in cases if any(case.find(end) is not None for end in ("failure", "error"))]
    if not cases or skipped or (done.returncode == 0) is bool(failed):
        raise SystemExit(f"the tests could not be run on {component}:\n{done.stdout}{done.stderr}")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the mutants and do nothing")
    parser.add_argument("--only", metavar="TEXT", default="", help="those whose kind or name contains this")
    asked = parser.parse_args(arguments)
    chosen = [mutant for mutant in MUTANTS if asked.only in f"{mutant.kind}: {mutant.name}"]
    if asked.list:
        print("\n".join(f"{mutant.kind}: {mutant.name} ({mutant.file})" for mutant in chosen))
        return 0
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        crate, target, report = Path(folder, "crate"), Path(folder, "target"), Path(folder, "report.xml")
        shutil.copytree(EXTENSION, crate, ignore=shutil.ignore_patterns("target"))
        if failed := _failures(_built(crate, target), report):
            raise SystemExit(f"{failed[0]} fails on the source as it is")
        print("| kind | mutant | killed by | s |\n|---|---|---|---|", flush=True)
        for mutant in chosen:
            start = time.monotonic()
            path = crate / "src" / mutant.file
            original = path.read_text("utf-8")
            path.write_text(mutant.applied(original), "utf-8")
            killers = _failures(_built(crate, target), report)
            path.write_text(original, "utf-8")
            survivors += not killers
            killed = f"`{killers[0]}`" if killers else "**survived**"
            print(f"| {mutant.kind} | {mutant.name} | {killed} | {time.monotonic() - start:.0f} |", flush=True)
    print(f"\n{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
