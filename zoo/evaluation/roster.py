"""The systems that the zoo is about, and what would measure each of them.

Every one has a row on the boards where it belongs, measured or published; else the row says that it
was not measured yet, and how to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """A system and a board it belongs on.

    Attributes:
        name: as the papers have it.
        dataset: of the board.
        protocol: of the board.
        architecture: name in the catalog.
        recipe: that trains it; by default the architecture's.
        options: further ones of the training; without one, of the data.
        is_trained: it has weights, which a recipe trains.
    """

    name: str
    dataset: str
    protocol: str
    architecture: str
    recipe: str = ""
    options: str = ""
    is_trained: bool = True

    @property
    def arguments(self) -> dict[str, float] | None:
        """What sets its model apart; None where its data do, which no score file tells."""
        if "--data." in self.options:
            return None
        words = re.findall(r"--model\.(\w+) ([\d.]+)", self.options)
        return {name: float(value) for name, value in words}

    @property
    def command(self) -> str:
        """What would measure it."""
        where = f"--data {self.dataset} --root DIR --protocol {self.protocol}"
        if not self.is_trained:
            preset = self.options or "--preset projet-experiment"
            return f"zoo evaluate {self.architecture} {preset} {where}"
        recipe = self.recipe or self.architecture
        # These recipes have their data themselves.
        data = "" if self.recipe else f" -c data/{self.dataset}"
        fit = f"zoo fit -c {recipe}{data}{self.options}"
        if recipe != "mmdensenet-plus":  # which has two roots, of $ZOO_DATA
            fit += " --data.root DIR"
        run = f"runs/{recipe}" + (f"-{self.dataset}" if data else "")
        name = re.sub(r"[^\w.-]+", "-", self.name.casefold()).strip("-")
        return f"{fit}; zoo evaluate {name}={run}/checkpoints/best.ckpt {where}"


def _wavenets() -> list[tuple[str, str, str, str]]:
    """Name, architecture, recipe and options of the rows of the Wavenet paper's Tables 2 and 4."""
    plain = " --model.dissimilarity 0"
    stacks = [(f"{n} stack{'s' * (n > 1)}", f"{plain} --model.n_stacks {n}") for n in range(1, 6)]
    many = [*stacks, ("4 stacks + L_d", " --model.n_stacks 4")]
    voice = [
        *((name, f"{options} --data.augment.voiced 0") for name, options in many),
        *(
            (f"4 stacks + L_d + {p}%", f" --data.augment.voiced {p / 100:g}")
            for p in (25, 50, 75, 100)
        ),
    ]
    return [
        *((f"Wavenet, {name}", "wavenet", "wavenet", options) for name, options in many),
        *(
            (f"Wavenet for the voice, {name}", "wavenet-voice", "wavenet-voice", options)
            for name, options in voice
        ),
    ]


SYSTEMS: tuple[System, ...] = (
    *(
        System(name, "dsd100", "sisec2016", name.lower())
        for name in "DeepNMF NUG FNN BLSTM BLEND MDenseNet MMDenseNet DeepConvSep".split()
    ),
    System("MMDenseNet+", "dsd100", "sisec2016", "mmdensenet", "mmdensenet-plus"),
    *(
        System(name, "musdb18", protocol, architecture, recipe, options)
        for protocol in ("sisec2018", "v4-pooled")
        for name, architecture, recipe, options in (
            *_wavenets(),
            ("Wave-U-Net", "wave-u-net", "", ""),
            ("DeepConvSep", "deepconvsep", "", ""),
        )
    ),
    *(
        System(
            f"Wave-U-Net {form}",
            "musdb18",
            "v4-pooled",
            f"wave-u-net-{form.lower()}",
            "wave-u-net",
            f" --model wave-u-net-{form.lower()}",
        )
        for form in ("M1", "M2", "M3", "M4", "M5", "M7")
    ),
    *(
        System(name, "scenes", "projet", name.lower(), is_trained=False)
        for name in ("PROJET", "PROJET-IS", "DUET", "ADRess", "pairs", "LGM", "MNMF")
    ),
    System(
        "ICA",
        "scenes",
        "projet",
        "ica",
        is_trained=False,
        options="--arguments '{sources: [vocals, drums], scenes: {pair: {pans: [30, 60]}}}'",
    ),
    *(
        System(name, "mir1k", "mir1k", architecture)
        for name, architecture in (
            ("MDenseNet", "mdensenet"),
            ("MMDenseNet", "mmdensenet"),
            ("DeepConvSep", "deepconvsep"),
            ("Wavenet", "wavenet-voice"),
            ("Wave-U-Net", "wave-u-net"),
        )
    ),
)
