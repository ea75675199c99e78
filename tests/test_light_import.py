"""What one waits for before anything happens: ``import zoo``, and the commands that only tell."""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch", "lightning", "pytorch_lightning", "torchaudio", "torchmetrics", "scipy", "pandas",
    "matplotlib", "wandb", "huggingface_hub", "musdb", "museval", "stempeg", "av", "jsonargparse",
)  # fmt: skip

# CPU time of the process up to its exit, interpreter included; waiting does not count.
TELL = f"""
import json, sys, time
def tell():
    cpu = time.process_time()
    print(json.dumps([cpu, [name for name in {HEAVY!r} if name in sys.modules]]), file=sys.stderr)
"""
COMMAND = (
    "import sys\n"
    "from zoo.cli import main\n"
    "try: status = main({arguments!r})\n"
    "except SystemExit as e: status = e.code\n"
    "tell()\n"
    "sys.exit(status)"
)


def run(code):
    """CPU seconds, heavy packages and output of ``code`` in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", TELL + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cpu, imported = json.loads(done.stderr.splitlines()[-1])
    return cpu, imported, done.stdout


def fastest(code):
    """The quickest of three runs: other work on the machine slows single ones."""
    return min(run(code)[0] for _ in range(3))


COMMANDS = [["--help"], ["list"], ["info", "mmdensenet"]]


def test_importing_the_zoo_imports_nothing_heavy():
    _, imported, _ = run("import zoo\ntell()")
    assert imported == []


def test_importing_the_zoo_takes_milliseconds():
    code = (
        "before = time.process_time()\n"
        "import zoo\n"
        "print(json.dumps([time.process_time() - before, []]), file=sys.stderr)"
    )
    assert fastest(code) < 0.05


def test_finding_models_and_recipes_imports_nothing_heavy():
    _, imported, output = run(
        "import zoo\nfrom zoo import recipes\nprint(zoo.list_models(), recipes.names())\ntell()"
    )
    assert imported == []
    assert "mmdensenet" in output


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_that_only_tells_imports_nothing_heavy(arguments):
    _, imported, output = run(COMMAND.format(arguments=arguments))
    assert imported == []
    assert output.strip()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_that_only_tells_answers_in_under_a_third_of_a_second(arguments):
    assert fastest(COMMAND.format(arguments=arguments)) < 0.3


def test_the_measure_sees_a_heavy_import():
    cpu, imported, _ = run("import torch\ntell()")
    assert "torch" in imported
    assert cpu > 0.3


@pytest.mark.slow
def test_every_public_name_can_be_had():
    # In a process of its own, since other tests may have imported the modules already.
    _, _, output = run(
        "import zoo\n"
        "assert set(zoo.__all__) <= set(dir(zoo))\n"
        "print([name for name in zoo.__all__ if getattr(zoo, name) is None])\n"
        "tell()"
    )
    assert output.strip() == "[]"


def test_a_name_that_the_zoo_does_not_have_is_an_attribute_error():
    _, _, output = run(
        "import zoo\ntry: zoo.nonsense\nexcept AttributeError as e: print(e)\ntell()"
    )
    assert output.strip() == "module 'zoo' has no attribute 'nonsense'"
