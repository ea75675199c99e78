"""The systems that the zoo is about, and what would measure each of them.

Every one has a row on the boards where it belongs, measured or published; else the row says that it
was not measured yet, and how to.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """A system and a board it belongs on.

    Attributes:
        name: as the papers have it.
        dataset: of the board.
        protocol: of the board.
        architecture: name in the catalog.
        stacks: of a Wavenet; 0 for the others.
        variant: what else sets it apart, as the comments of its recipe name it.
        is_trained: it has weights, which a recipe trains.
    """

    name: str
    dataset: str
    protocol: str
    architecture: str
    stacks: int = 0
    variant: str = ""
    is_trained: bool = True

    @property
    def command(self) -> str:
        """What would measure it."""
        where = f"--data {self.dataset} --root DIR --protocol {self.protocol}"
        if not self.is_trained:
            return f"zoo evaluate {self.architecture} {where}"
        fit = f"zoo fit -c {self.architecture} -c data/{self.dataset}"
        if self.stacks:
            fit += f" --model.init_args.n_stacks={self.stacks}"
        if self.variant:
            fit += f" (and what the recipe names for: {self.variant})"
        return f"{fit}; zoo evaluate LAST.ckpt {where}"


def _wavenets() -> list[tuple[str, int, str]]:
    """Name, stacks and variant of every row of the Wavenet paper's Tables 2 and 4."""
    stacks = [(f"{n} stack{'s' * (n > 1)}", n, "") for n in range(1, 6)]
    unlike = ("4 stacks + L_d", 4, "L_d")
    shares = [(f"4 stacks + L_d + {p}%", 4, f"L_d, {p} % voice") for p in (25, 50, 75, 100)]
    voice = [
        (f"Wavenet for the voice, {name}", n, f"the voice{', ' * bool(variant)}{variant}")
        for name, n, variant in (*stacks, unlike, *shares)
    ]
    return [*((f"Wavenet, {name}", n, variant) for name, n, variant in (*stacks, unlike)), *voice]


SYSTEMS: tuple[System, ...] = (
    *(
        System(name, "dsd100", "sisec2016", name.lower().rstrip("+"))
        for name in "DeepNMF NUG FNN BLSTM BLEND MDenseNet MMDenseNet MMDenseNet+ "
        "DeepConvSep".split()
    ),
    *(
        System(name, "musdb18", protocol, architecture, stacks, variant)
        for protocol in ("sisec2018", "v4-pooled")
        for name, architecture, stacks, variant in (
            *((name, "wavenet", n, variant) for name, n, variant in _wavenets()),
            ("Wave-U-Net", "wave-u-net", 0, ""),
            ("DeepConvSep", "deepconvsep", 0, ""),
        )
    ),
    *(
        System(name, "scenes", "projet", name.lower(), is_trained=False)
        for name in ("PROJET", "DUET", "ADRess", "ICA")
    ),
    *(
        System(name, "mir1k", "mir1k", architecture)
        for name, architecture in (
            ("MDenseNet", "mdensenet"),
            ("MMDenseNet", "mmdensenet"),
            ("DeepConvSep", "deepconvsep"),
            ("Wavenet", "wavenet"),
            ("Wave-U-Net", "wave-u-net"),
        )
    ),
)
