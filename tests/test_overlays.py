"""Every overlay of data works under the recipe of every architecture."""

import functools
import inspect
import json
from importlib import import_module

import pytest

from zoo import recipes
from zoo.cli.arguments import prepare
from zoo.cli.lightning_cli import TrainCLI
from zoo.cli.parser import imported
from zoo.cli.reading import read
from zoo.data import DATASETS
from zoo.data.augmentation import Augmentation
from zoo.errors import MissingPackage

ARCHITECTURES = [name for name in recipes.names() if "/" not in name]
OVERLAYS = [name for name in recipes.names() if name.startswith("data/")]


class Parser(TrainCLI):
    """The parser of ``fit``, without a run: it takes seconds to make, and serves all pairs."""

    def __init__(self):
        with pytest.raises(Made):
            super().__init__(prepare("fit", []), [])

    def parse_arguments(self, parser, args):
        self.parser = parser
        raise Made


class Made(Exception):
    pass


@pytest.fixture(scope="module")
def parser():
    return Parser().parser


@pytest.fixture
def resolved(parser, tmp_path):
    """The model and data that some recipes give one after the other, in the small variant."""

    def resolve(*names):
        words = [word for name in names for word in ("-c", str(name))]
        call = prepare("fit", [*words, "--tiny"])
        config = parser.parse_args(["fit", *call.written(tmp_path)]).fit
        return config.model, config.data

    return resolve


@functools.cache
def built(class_path, arguments):
    """Once for all overlays that ask for the same."""
    return imported(class_path)(**json.loads(arguments))


def accepts(data):
    """Raise where a data set has no such arguments, those of the parts of a mixture included."""
    arguments = data.get("arguments") or {}
    module, name = DATASETS[data["dataset"]].split(":")
    inspect.signature(getattr(import_module(module), name)).bind_partial(**arguments)
    for part in arguments.get("parts", ()):
        accepts(part)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_follows_the_data_it_is_given(architecture, overlay, resolved):
    wanted = read(recipes.find(overlay)).tree
    model, data = resolved(architecture, overlay)
    try:
        found = built(model.class_path, json.dumps(model.init_args.as_dict()))
    except MissingPackage as error:
        pytest.skip(str(error))
    described = {"sources": list(found.sources), "sample_rate": found.sample_rate}
    assert {**described, "channels": found.channels} == wanted["model"]["init_args"]
    assert found.segment > 0
    assert data.dataset == wanted["data"]["dataset"]
    accepts(data.as_dict())
    Augmentation(**data.augment.as_dict()).check_sources(found.sources)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_sets_what_every_model_has_and_the_data_and_no_more(overlay):
    tree = read(recipes.find(overlay)).tree
    assert set(tree) == {"model", "data"}
    assert set(tree["model"]) == {"init_args"}
    assert set(tree["model"]["init_args"]) == {"sources", "sample_rate", "channels"}
    assert set(tree["data"]) <= {"dataset", "arguments"}


# ---- what a data set leaves to the next


OF_MUSDB18 = """
model: {class_path: mmdensenet}
data:
  dataset: musdb18
  root: somewhere
  arguments: {valid: 25, other: difference}
  batch_size: 3
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "paper.yaml"
    path.write_text(OF_MUSDB18)
    return path


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "data/musdb18"])
def test_another_data_set_inherits_neither_root_nor_arguments(overlay, recipe, resolved):
    _, data = resolved(recipe, overlay)
    assert data.root is None
    assert not {"valid", "other"} & set(data.arguments or {})
    assert data.batch_size == 3
    accepts(data.as_dict())


def test_the_same_data_set_keeps_them(recipe, resolved):
    _, data = resolved(recipe, "data/musdb18", "hardware/cpu-smoke")
    assert (data.root, data.arguments) == ("somewhere", {"valid": 25, "other": "difference"})


def test_what_comes_after_the_other_data_set_counts(recipe, resolved, tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text("data: {root: elsewhere, arguments: {split: leakage-free}}")
    _, data = resolved(recipe, "data/mir1k", more)
    assert (data.root, data.arguments) == ("elsewhere", {"split": "leakage-free"})
    _, data = resolved(recipe, more, "data/mir1k")
    assert (data.root, data.arguments) == (None, None)
