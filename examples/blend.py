"""A blend of trained systems, its weights fitted on validation songs, as a release.

    python blend.py mmdensenet-mir1k mdensenet-mir1k --data mir1k --root MIR-1K/ -o blend-mir1k
    zoo evaluate blend-mir1k --data mir1k --root MIR-1K/ --protocol mir1k

Members are releases, or checkpoints as ``name=FILE.ckpt``.  The release states the licence and the
songs of the first.
"""

import argparse

import torch

import zoo
from zoo.data import open_dataset
from zoo.data.module import Format
from zoo.models import blend
from zoo.release import locate, read_release
from zoo.weights import write_release

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("members", nargs="+", help="the first is a release")
parser.add_argument("--data", default="mir1k", help="data set")
parser.add_argument("--root", help="its folder")
parser.add_argument("-o", "--output", default="blend-mir1k", help="folder; its name the release's")
options = parser.parse_args()
first = read_release(locate(options.members[0]).path)
members = {}
for text in options.members:
    name, _, place = text.rpartition("=")
    members[name or text] = zoo.from_pretrained(place)
blended = blend.of(members)


def songs():
    """Mixtures and references of the songs that validate."""
    format = Format(blended.sources, blended.sample_rate, blended.channels)
    for track in open_dataset(options.data, options.root).tracks("valid"):
        stems = torch.stack(
            [torch.as_tensor(format.read(track, s, 0, None)) for s in blended.sources]
        )
        yield stems.sum(0), stems


weights = blend.fitted(blended, songs())
for source, found in weights.items():
    print(source, "  ".join(f"{name} {weight:.3f}" for name, weight in found.items()))
facts = {"validation": "weights by least squares on the validation songs", "weights": weights}
write_release(
    options.output, blend.of(members, weights), name=options.output.rpartition("/")[2],
    licence=first.licence, trained_on=first.trained_on, provenance=facts,
)  # fmt: skip
print(f"{options.output} is written")
