"""Problems from JSONL files: our own lines, GSM8K's, HumanEval's and BIG-Bench Hard's as they are."""

from __future__ import annotations

import gzip
import hashlib
import json
import string
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..encoding import decode_text
from ..errors import ConfigError, EncodingError
from ..text import check_extractor, extract

if TYPE_CHECKING:
    from ..text import Message

SHIPPED = Path(__file__).with_name("smoke.jsonl")
"""Problems to try a run with."""

_HUMANEVAL = "Complete this Python function. Answer with the whole function in one ```python block.\n\n```python\n{}```"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem.

    Attributes:
        id: the file's own, else from what it says.
        question: what the model is asked.
        answer: the right one, as its extractor writes it; empty for code.
        extractor: how an answer is found in a reply (see `extract`).
        shots: questions and answers to go before it.
        prompt: the code that the model is to go on from; empty elsewhere.
        entry_point: the function that is tested.
        tests: a program that fails unless the code before it is right.
    """

    id: str
    question: str
    answer: str
    extractor: str
    shots: tuple[tuple[str, str], ...] = ()
    prompt: str = ""
    entry_point: str = ""
    tests: str = ""


def read_problems(path: Path, *, extractor: str | None = None, template: str = "{question}") -> list[Problem]:
    """The problems of a JSONL file, which may be gzipped.

    Args:
        path: of the file.
        extractor: for all of them, instead of their own.
        template: what is asked; `{question}` stands for the question.

    Raises:
        ConfigError: a line is not a problem record, or there is none.
        OSError: it cannot be read.
    """
    if "{question}" not in template:
        raise ConfigError(f"template {template!r} has no place for the question: it must contain {{question}}")
    if extractor:
        check_extractor(extractor)
    found: dict[str, Problem] = {}
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            try:
                problem = _problem(json.loads(line), extractor, template)
            except (ValueError, TypeError, KeyError) as error:  # ConfigError is a ValueError
                reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                raise ConfigError(f"{path}: line {number} is not a problem record: {reason}") from error
            if problem.id in found and found[problem.id] != problem:
                raise ConfigError(f"{path}: line {number}: the id {problem.id!r} is taken by another problem")
            found[problem.id] = problem
    if not found:
        raise ConfigError(f"{path} has no problems: each line must be a JSON object")
    return list(found.values())


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    try:
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return decode_text(data, str(path)).split("\n")
    except EncodingError as error:
        raise ConfigError(str(error)) from error
    except (EOFError, OSError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read: it must be UTF-8 text, or that gzipped ({error})") from error


def _problem(record: Any, extractor: str | None, template: str) -> Problem:
    if not isinstance(record, dict):
        raise ConfigError("it must be a JSON object")
    if "entry_point" in record:
        return _humaneval(record, template)
    question, answer = _text(record, "question"), record["answer"]
    kind = extractor or record.get("extractor") or ("choice" if "choices" in record else _kind(question, str(answer)))
    check_extractor(kind)
    if kind == "code":
        tests = _text(record, "tests")
        return Problem(id=_id(record), question=_asked(template, question), answer="", extractor=kind, tests=tests)
    if "choices" in record:
        question, answer = _choices(question, record["choices"], answer)
    elif not isinstance(answer, str):
        answer = _text(record, "answer")
    gold = answer.rpartition("####")[2].strip() if kind == "last-number" else answer
    return Problem(
        id=_id(record),
        question=_asked(template, question),
        answer=_gold(gold, kind),
        extractor=kind,
        shots=_shots(record.get("few_shot", [])),
    )


def _humaneval(record: dict[str, Any], template: str) -> Problem:
    prompt, entry_point = _text(record, "prompt"), _text(record, "entry_point")
    return Problem(
        id=_id(record),
        question=_asked(template, _HUMANEVAL.format(prompt)),
        answer="",
        extractor="code",
        prompt=prompt,
        entry_point=entry_point,
        tests=f"{_text(record, 'test')}\ncheck({entry_point})\n",
    )


def _shots(shots: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(shots, list) or not all(isinstance(shot, dict) for shot in shots):
        raise ConfigError(f"few_shot is {shots!r}: it must be a list of objects with a question and an answer")
    return tuple((_text(shot, "question"), _text(shot, "answer")) for shot in shots)


def _asked(template: str, question: str) -> str:
    return template.replace("{question}", question)


def _text(record: Any, key: str) -> str:
    value = record[key]
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ConfigError(f"{key} is {value!r}: it must be a text")
    return str(value)


def _id(record: dict[str, Any]) -> str:
    for key in ("id", "task_id"):
        if key in record:
            return str(record[key])
    said = json.dumps([record.get("question"), record.get("answer")], ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _kind(question: str, answer: str) -> str:
    """GSM8K's answers end in `#### 72`; a number is compared as one, anything else as it is written.

    The letter of an option that the question lists, as BIG-Bench's do, is a choice.
    """
    if len(answer) == 1 and answer in string.ascii_uppercase and f"({answer})" in question:
        return "choice"
    if "####" in answer or extract(answer, "exact") == extract(answer, "last-number"):
        return "last-number"
    return "exact"


def _choices(question: str, choices: Any, answer: Any) -> tuple[str, str]:
    """The question with lettered lines, and the letter of the answer: given as an index, a letter or a text."""
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise ConfigError(f"choices is {choices!r}: it must be a list of 2 to 26 texts")
    letters = string.ascii_uppercase[: len(choices)]
    if isinstance(answer, int) and 0 <= answer < len(choices):
        letter = letters[answer]
    elif answer in choices:
        letter = letters[choices.index(answer)]
    elif str(answer) in letters:
        letter = str(answer)
    else:
        raise ConfigError(f"answer is {answer!r}: it must be a letter, an index or a text of the choices")
    lines = [f"{name}. {choice}" for name, choice in zip(letters, choices, strict=True)]
    return "\n".join([question, *lines, "Answer with the letter."]), letter


def _gold(answer: str, extractor: str) -> str:
    """The answer in its extractor's own writing."""
    if extractor.startswith("regex:"):
        return extract(answer, "exact") or ""
    found = extract(answer, extractor)
    if found is None:
        raise ConfigError(f"answer is {answer!r}: {extractor} finds nothing in it")
    return found


def messages(problem: Problem) -> list[Message]:
    """The conversation that asks it."""
    said: list[Message] = []
    for question, answer in problem.shots:
        said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*said, {"role": "user", "content": problem.question}]


def program(problem: Problem, code: str) -> str:
    """The code to be tested, with the imports of its prompt; where it is only a function's body, after its head."""
    head = f"def {problem.entry_point}"
    if head not in code:
        return problem.prompt + code
    before = problem.prompt.partition(head)[0]
    return f"{before}\n{code}" if before.strip() and "from __future__" not in code else code
