"""Names to classes: our table, plug-ins of other packages, and what can be wrong with them."""

import sys

import pytest
import torch

import zoo
from zoo import catalog
from zoo.errors import MissingPackage, RecipeError, UnknownModel, ZooError
from zoo.models import TABLE
from zoo.weights import facts

PLUGIN = '''
class Fence:
    """Splits by a fence.

    More words.
    """
    paper = "Nobody, 2026"
    domain = "waveform"
    trainable = False
    tiny = {"height": 2}
    def __init__(self, height=10):
        self.height = height
class Bare:
    pass
not_a_class = 3
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes an installed package of entry points and a module, as pip would leave it."""

    def put(points, text=PLUGIN, package="zoo-fence"):
        folder = tmp_path / package
        folder.mkdir()
        module = package.replace("-", "_")
        (folder / f"{module}.py").write_text(text)
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[zoo.models]", *lines]) + "\n")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, module, raising=False)
        catalog._plugins.cache_clear()
        return module

    yield put
    monkeypatch.undo()
    catalog._plugins.cache_clear()


# ------------------------------------------------------------------------------- ours


@pytest.mark.parametrize("name", TABLE)
def test_the_facts_of_our_systems_are_complete(name):
    known = catalog.entry(name)
    assert known.paper and known.summary
    assert known.domain in catalog.DOMAINS
    assert known.tiny
    assert not known.plugin


@pytest.mark.parametrize("name", TABLE)
def test_the_table_says_of_a_class_what_the_class_says_of_itself(name):
    cls = catalog.load(name)
    assert issubclass(cls, zoo.Separator)
    assert catalog.entry(name).tiny == dict(cls.tiny)
    assert catalog.entry(name).trainable == cls.trainable


@pytest.mark.parametrize("name", TABLE)
def test_every_name_can_be_created_small(name):
    try:
        model = zoo.create(name, **catalog.entry(name).tiny)
    except MissingPackage as error:
        pytest.skip(str(error))
    assert isinstance(model, zoo.Separator)


def test_the_arguments_of_a_variant_make_it_another_model():
    def parameters(name, **arguments):
        model = zoo.create(name, **catalog.entry(name).tiny, **arguments)
        return sum(p.numel() for p in model.parameters())

    assert parameters("mdensenet") < parameters("mmdensenet")
    assert parameters("mdensenet", multi_band=True) == parameters("mmdensenet")


@pytest.mark.parametrize(
    ("architecture", "arguments", "name"),
    [
        ("mmdensenet", {"multi_band": False, "hop": 512}, "mdensenet"),
        ("mmdensenet", {"multi_band": True}, "mmdensenet"),
        ("mmdensenet", {}, "mmdensenet"),
        ("wavenet", {"sources": ["vocals", "accompaniment"]}, "wavenet-voice"),
        ("of another package", {"multi_band": False}, "of another package"),
    ],
)
def test_a_variant_is_known_by_its_arguments(architecture, arguments, name):
    assert catalog.variant(architecture, arguments) == name


def test_names_are_listed_in_alphabetical_order():
    assert zoo.list_models() == sorted({*zoo.list_models(), *TABLE})


def test_names_are_listed_by_domain_and_by_whether_they_are_trained():
    assert "mmdensenet" in zoo.list_models(domain="spectrogram", trainable=True)
    assert "mmdensenet" not in zoo.list_models(domain="spatial")
    assert "mmdensenet" not in zoo.list_models(trainable=False)


def test_an_unknown_domain_is_refused():
    with pytest.raises(ZooError, match="no domain 'spectrum'; expected one of spectrogram, wave"):
        zoo.list_models(domain="spectrum")


def test_what_is_done_to_an_entry_does_not_reach_the_table():
    catalog.entry("mmdensenet").tiny["low"].append([9, 9])
    assert [9, 9] not in catalog.entry("mmdensenet").tiny["low"]


@pytest.mark.parametrize(
    ("asked", "nearest"), [("mmdensnet", "mmdensenet"), ("MDenseNet", "mdensenet")]
)
@pytest.mark.parametrize("call", [catalog.entry, catalog.load, zoo.create])
def test_an_unknown_name_gets_the_nearest(call, asked, nearest):
    with pytest.raises(UnknownModel, match=f"{asked!r}. Did you mean {nearest!r}\\? `zoo list`"):
        call(asked)


def test_a_name_that_is_near_nothing_gets_no_guess():
    with pytest.raises(UnknownModel, match="no model named 'qqq'. `zoo list` shows them all."):
        zoo.create("qqq")


# ------------------------------------------------------------------------------- plug-ins


def test_a_plugin_is_created_by_its_name(install):
    install({"fence": "Fence"})
    assert "fence" in zoo.list_models()
    assert zoo.create("fence", height=3).height == 3


def test_a_plugin_is_not_imported_before_it_is_asked_for(install):
    module = install({"fence": "Fence"})
    zoo.list_models()
    target = catalog.entry("fence").target
    assert (target, module in sys.modules) == (f"{module}:Fence", False)
    zoo.create("fence")
    assert module in sys.modules


def test_the_class_of_a_plugin_gives_its_facts(install):
    install({"fence": "Fence"})
    fence = catalog.described("fence")
    assert (fence.paper, fence.domain, fence.trainable) == ("Nobody, 2026", "waveform", False)
    assert (fence.summary, fence.tiny) == ("Splits by a fence.", {"height": 2})
    assert fence.plugin == "zoo-fence"
    assert zoo.list_models(domain="waveform", trainable=False) == ["fence"]


def test_a_plugin_may_say_nothing_of_itself(install):
    install({"bare": "Bare"})
    bare = catalog.described("bare")
    assert (bare.summary, bare.domain, bare.trainable, bare.tiny) == ("", "", True, {})


@pytest.mark.parametrize(
    ("text", "attribute", "said"),
    [
        ("import no_such_package\n", "Fence", "ModuleNotFoundError: No module named 'no_such_pac"),
        ("raise ValueError('wrong weather')\n", "Fence", "ValueError: wrong weather"),
        (PLUGIN, "Gate", "AttributeError: .*has no attribute 'Gate'"),
        (PLUGIN, "not_a_class", "is not a class"),
    ],
)
def test_a_broken_plugin_is_named_with_its_error(install, text, attribute, said):
    install({"fence": attribute}, text)
    with pytest.raises(catalog.BrokenPlugin, match=f"'fence' .*from zoo-fence.*{said}"):
        zoo.create("fence")


def test_a_broken_plugin_harms_nobody(install, caplog):
    install({"fence": "Fence"}, "raise RuntimeError('wrong weather')\n")
    assert {"fence", "mmdensenet"} <= set(zoo.list_models())
    ours = [n for n in zoo.list_models() if n != "fence" and catalog.entry(n).trainable]
    assert zoo.list_models(trainable=True) == ours
    assert "wrong weather" in caplog.text
    assert catalog.load("mmdensenet")


def test_a_misspelt_argument_gets_the_nearest():
    with pytest.raises(RecipeError, match="mmdensenet has no argument 'chanels'. Did .*'channels'"):
        zoo.create("mmdensenet", chanels=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models(trainable=True))
def test_the_table_has_the_size_reach_and_cost_that_are_measured(name):
    known = catalog.entry(name).facts
    # On the meta device nothing is computed; an inverse transform needs values.
    has_transform = catalog.entry(name).domain == "spectrogram" or name == "htdemucs"
    is_huge = "roformer" in name  # minutes of computing
    with torch.device("cpu" if has_transform and not is_huge else "meta"):
        try:
            model = zoo.create(name)
        except MissingPackage as error:
            pytest.skip(str(error))
    described = (list(model.sources), model.sample_rate, model.channels)
    assert described == (known["sources"], known["sample_rate"], known["channels"])
    if is_huge:
        measured = {"parameters": sum(p.numel() for p in model.parameters())}
    else:
        measured = facts(model)
    assert measured == {key: known[key] for key in measured}


def test_a_plugin_with_one_of_our_names_is_an_error_that_names_both(install):
    install({"mmdensenet": "Fence"})
    with pytest.raises(
        ZooError, match="two architectures are named 'mmdensenet', from zoo and zoo-f"
    ):
        zoo.list_models()


def test_two_plugins_of_one_name_are_an_error_that_names_both(install):
    install({"fence": "Fence"})
    install({"fence": "Fence"}, package="zoo-garden")
    with pytest.raises(
        ZooError, match="'fence', from (zoo-fence and zoo-garden|zoo-garden and zoo-fe)"
    ):
        zoo.create("fence")
