"""The plain commands, declared with typer; each imports what it needs when it runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import click
import typer

from zoo import __version__
from zoo.cli.progress import KINDS
from zoo.errors import ZooError

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Music source separation: separate songs, train separators, compare them.",
)
data = typer.Typer(no_args_is_help=True, help="Look at data sets, make some, download others.")
app.add_typer(data, name="data")


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; errors of the user become a line and exit status 2."""
    command = typer.main.get_command(app)
    try:
        with _ending_cleanly():
            status = command.main(args=list(arguments), prog_name="zoo", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except ZooError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 2)
    if status == INTERRUPTED:  # typer itself returns it too
        return _fail("stopped; finished files are complete", INTERRUPTED)
    return int(status or 0)


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Files in the making are removed when the system ends us, as they are after Ctrl-C."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


@app.callback(invoke_without_command=True)
def _zoo(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


ModelOption = Annotated[
    str | None,
    typer.Option("-m", "--model", help="Release, folder, checkpoint or org/name on the Hub."),
]
ObjectsOption = Annotated[
    int | None,
    typer.Option(min=1, help="How many a spatial system looks for; estimated by default."),
]
MaxDelayOption = Annotated[
    float | None,
    typer.Option(metavar="SAMPLES", help="Between its channels, at 44.1 kHz; none by default."),
]
LocationOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PAN[,DELAY]",
        help="Of an object for it: 0 left, 45 centre, 90 right; may be given several times.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, mps...")]


@app.command()
def separate(
    inputs: Annotated[
        list[str],
        # Its name says it all: click 8.5 does not show typer's help of an argument.
        typer.Argument(metavar="FILE|FOLDER|PATTERN...", show_default=False),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            help="Release, folder, checkpoint or org/name on the Hub; several are blended.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SOURCE=]W,W...", help="Of a blend: a number for each -m; equal by default."
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder of the stems.")
    ] = "separated",
    sources: Annotated[
        list[str] | None,
        typer.Option("-s", "--source", help="A source to write; may be given several times."),
    ] = None,
    two_stems: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="This source, and everything else.")
    ] = None,
    format: Annotated[
        str,
        typer.Option("-f", "--format", help="wav, flac, ogg, mp3...; stem.mp4: one file for DJs."),
    ] = "wav",
    bits: Annotated[
        str | None, typer.Option(help="16, 24, 32 or float; as good as the input by default.")
    ] = None,
    template: Annotated[
        str, typer.Option(help="Place of a stem below the folder.")
    ] = "{name}/{source}.{format}",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace stems that are there already.")
    ] = False,
    picture: Annotated[bool, typer.Option("--picture", help="Draw the spectrograms.")] = False,
    objects: ObjectsOption = None,
    max_delay: MaxDelayOption = None,
    location: LocationOption = None,
    high_band: Annotated[
        str, typer.Option(help="Source that takes what lies above the model's band.")
    ] = "residual",
    consistent: Annotated[
        bool, typer.Option("--consistent", help="Make the sources sum to the mixture.")
    ] = False,
    chunk: Annotated[float | None, typer.Option(help="Seconds computed at once.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of a chunk that is faded.")] = 0.25,
    shifts: Annotated[int, typer.Option(min=0, help="Further passes, averaged.")] = 0,
    flip: Annotated[
        bool, typer.Option("--flip", help="A pass with left and right exchanged, averaged.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Chunks computed together.")] = 1,
    precision: Annotated[
        str, typer.Option(click_type=click.Choice(["float32", "bf16"]), help="Of the arithmetic.")
    ] = "float32",
    device: DeviceOption = "auto",
    progress: Annotated[
        str, typer.Option(click_type=click.Choice(KINDS), help="How it is shown.")
    ] = "auto",
) -> None:
    """Take songs apart into files of stems."""
    from zoo.cli.separate import Request, separate_songs

    request = Request(
        inputs, model, weights, output, sources, two_stems, format, bits, template, overwrite,
        picture, device, progress, objects, max_delay, location,
        {
            "high_band": high_band, "consistent": consistent, "chunk": chunk, "overlap": overlap,
            "shifts": shifts, "flip": flip, "batch_size": batch_size, "precision": precision,
        },
    )  # fmt: skip
    raise typer.Exit(separate_songs(request))


@app.command()
def remix(
    song: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help="As zoo separate has it."),
    ] = None,
    gain: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE=DB", help="Louder or softer.")
    ] = None,
    mute: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help="Without it.")] = None,
    solo: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="Of nothing but these.")
    ] = None,
    pan: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=DEGREES[,SAMPLES]",
            help="At -45 (left) to 45 (right), the right channel late by samples at 44.1 kHz.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="The remix.", show_default="<song>-remix.wav"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    objects: ObjectsOption = None,
    max_delay: MaxDelayOption = None,
    location: LocationOption = None,
    device: DeviceOption = "auto",
    progress: Annotated[
        str, typer.Option(click_type=click.Choice(KINDS), help="How it is shown.")
    ] = "auto",
) -> None:
    """Change a song's sources: louder, softer, gone, alone, at another place."""
    from zoo.cli.remix import remix_song
    from zoo.cli.separate import spatial_arguments

    remix_song(
        song, model, output, gain or (), pan or (), device, progress,
        spatial_arguments(objects, max_delay, location),
        mute=mute or (), solo=solo or (), overwrite=overwrite,
    )  # fmt: skip


@app.command()
def evaluate(
    systems: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]SYSTEM...", show_default=False),
    ],
    dataset: Annotated[str, typer.Option("--data", help="Id of the data set, such as mir1k.")],
    root: Annotated[
        str | None, typer.Option(help="Its folder; else $ZOO_DATA/ID, else data/ID.")
    ] = None,
    arguments: Annotated[
        str, typer.Option(help="Of the data set, as a recipe has them: '{test: sample}'.")
    ] = "{}",
    preset: Annotated[str | None, typer.Option(help="Of scenes: projet-experiment.")] = None,
    songs: Annotated[
        int | None, typer.Option(min=1, help="Of scenes: only the first N songs.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="sisec2016, sisec2018, v4-pooled, usdr, mir1k, si-sdr or projet; by default the "
            "data set's own."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(click_type=click.Choice(["train", "valid", "test"]), help="Of the data.")
    ] = "test",
    quick: Annotated[bool, typer.Option("--quick", help="SDR alone.")] = False,
    silence: Annotated[
        str,
        typer.Option(
            click_type=click.Choice(["museval", "references"]),
            help="Frames without a score: where anything is silent, or the source's reference.",
        ),
    ] = "museval",
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder of the score files.")
    ] = "results/scores",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N tracks.")] = None,
    jobs: Annotated[
        int, typer.Option(min=-1, help="Processes, of one thread each; -1: one for each core.")
    ] = 1,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask cluster that scores instead.")
    ] = None,
    keep_stems: Annotated[
        bool, typer.Option("--keep-stems", help="Write the estimates beside the scores.")
    ] = False,
    device: Annotated[str, typer.Option(help="For models: auto, cpu, cuda, mps...")] = "cpu",
    progress: Annotated[
        str, typer.Option(click_type=click.Choice(KINDS), help="How it is shown.")
    ] = "auto",
) -> None:
    """Score releases, checkpoints, folders of estimates, oracle:irm1, oracle:mwf..., mixture."""
    from zoo.cli.evaluate import Request, evaluate_systems

    request = Request(
        systems, dataset, root, arguments, protocol, split, progress,
        {key: value for key, value in {"preset": preset, "songs": songs}.items() if value},
        {
            "sdr_only": quick, "silence": silence, "output": Path(output), "limit": limit,
            "jobs": jobs, "scheduler": scheduler, "keep_stems": keep_stems, "device": device,
        },
    )  # fmt: skip
    raise typer.Exit(evaluate_systems(request))


@app.command()
def publish(
    source: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT|RELEASE", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="ARCHITECTURE-DATASET, such as wavenet-musdb18.")
    ] = None,
    repo: Annotated[str | None, typer.Option(metavar="ORG/NAME", help="On the Hub.")] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder that the release is made in.")
    ] = "releases",
    code_licence: Annotated[str, typer.Option(help="Of the code.")] = "MIT",
    weights_licence: Annotated[str | None, typer.Option(help="Of the weights.")] = None,
    data_licence: Annotated[str | None, typer.Option(help="Of what they learned from.")] = None,
    trained_on: Annotated[
        str | None, typer.Option(metavar="SENTENCE", help="What they learned from.")
    ] = None,
    stand_in_for: Annotated[
        str | None, typer.Option(metavar="NAME", help="Release that does not exist yet.")
    ] = None,
    scores: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Score files of zoo evaluate.")
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Data set of the Hub whose board shows the scores."),
    ] = None,
    precision: Annotated[
        str, typer.Option(click_type=click.Choice(["float16", "float32"]), help="Of the weights.")
    ] = "float16",
    tag: Annotated[
        str | None, typer.Option(help="Of the commit; v and the version by default.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Nobody else sees it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build and check; send nothing.")] = (
        False
    ),
    wandb: Annotated[
        bool, typer.Option("--wandb", help="Give it to Weights & Biases too, as an artifact.")
    ] = False,
) -> None:
    """Make a release of a run, check it, and upload it to the Hugging Face Hub."""
    from zoo.cli.hub import publish_release

    licence = {"code": code_licence, "weights": weights_licence or "", "data": data_licence or ""}
    publish_release(
        source, name, repo, output, tag, private, dry_run, wandb, licence=licence,
        trained_on=trained_on, stand_in_for=stand_in_for, scores=scores, precision=precision,
        benchmark=benchmark,
    )  # fmt: skip


@app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="RELEASE", show_default=False)],
) -> None:
    """Check a release's hashes, and that it still gives what it gave."""
    from zoo.cli.hub import verify_release

    verify_release(name)


@app.command("import")
def import_(
    what: Annotated[
        str, typer.Argument(metavar="NAME|KIND", show_default=False, help="As zoo list has it.")
    ],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", show_default=False)
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder that the release is made in.")
    ] = "releases",
    name: Annotated[
        str | None, typer.Option(help="Of a KIND: ARCHITECTURE-DATASET, such as asteroid-wham.")
    ] = None,
    sources: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Of a KIND: what the file gives, in order."),
    ] = None,
    code_licence: Annotated[str | None, typer.Option(help="Of a KIND.")] = None,
    weights_licence: Annotated[str | None, typer.Option(help="Of a KIND.")] = None,
    data_licence: Annotated[str | None, typer.Option(help="Of a KIND.")] = None,
    trained_on: Annotated[
        str | None, typer.Option(metavar="SENTENCE", help="Of a KIND: what it learned from.")
    ] = None,
) -> None:
    """Make a release of weights that others have published.

    NAME stands for weights of a system's authors, which are downloaded where no FILE is given. KIND
    is asteroid, bs-roformer or mel-band-roformer, for files that anybody has trained.
    """
    from zoo.cli.hub import import_weights

    licence = {"code": code_licence, "weights": weights_licence, "data": data_licence}
    stated = {part: text for part, text in licence.items() if text}
    import_weights(what, files or [], output, name, sources, stated, trained_on)


@app.command()
def demo(
    model: ModelOption = None,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder of the stems.")
    ] = "zoo-demo",
    generated: Annotated[bool, typer.Option("--generated", help="Use generated music.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Separate ten seconds of music, measure the result, and draw it."""
    from zoo.cli.separate import show_demo

    show_demo(model, output, generated, device)


@app.command("list")
def list_(
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only trained releases.")
    ] = False,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only releases whose weights' has it.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("-s", "--source", help="Only releases that give it; may be repeated."),
    ] = None,
    sort: Annotated[
        str, typer.Option(click_type=click.Choice(["name", "sdr"]), help="Of the releases.")
    ] = "name",
) -> None:
    """The architectures and the releases."""
    from zoo.cli.catalog import show_list

    show_list(pretrained, licence, source, sort)


@app.command()
def info(name: Annotated[str, typer.Argument(help="An architecture or a release.")]) -> None:
    """What a model is: band, context, size, cost, licences."""
    from zoo.cli.catalog import show_info

    show_info(name)


@app.command()
def leaderboard(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="[FOLDER...]", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--data", help="Only this data set; also that of files that tell none."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only this protocol; also that of files that tell none.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("-s", "--source", help="All that is known of one source.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="SDR, SIR, GNSDR...; the protocol's first by default.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "-f",
            "--format",
            click_type=click.Choice(["table", "markdown", "csv"]),
            help="By the suffix of the output, else a table.",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="File to write instead of printing.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two systems, track by track."),
    ] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="One page with all.")] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Box plots, and SDR against cost.")
    ] = None,
) -> None:
    """Compare systems: scores of files and releases, published ones."""
    from zoo.cli.leaderboard import Request, show_leaderboard

    request = Request(
        folders or [], dataset, protocol, source, metric, format, output, compare, html, plot
    )
    raise typer.Exit(show_leaderboard(request))


@app.command()
def doctor() -> None:
    """What this machine has: Python, torch, device, codecs, services."""
    from zoo.cli.doctor import show_doctor

    raise typer.Exit(show_doctor())


def _training(name: str, what: str) -> None:
    # Declared for the help; `zoo.cli.main` gives these to the LightningCLI before typer sees them.
    def command() -> None:  # pragma: no cover
        raise AssertionError

    app.command(name, help=f"{what} See `zoo {name} --help`.")(command)


_training("fit", "Train by a recipe: zoo fit -c mmdensenet -c data/mir1k.")
_training("validate", "Score a checkpoint on the validation tracks.")
_training("test", "Score a checkpoint on the test tracks.")
_training("predict", "Separate the test tracks of a data set, or files.")


@data.command()
def check(
    folder: Annotated[
        str | None, typer.Argument(help="Root of the data set.", show_default=False)
    ] = None,
    dataset: Annotated[str, typer.Option(help="folder, musdb18hq...")] = "folder",
    arguments: Annotated[
        str, typer.Option(help="As a recipe has them: '{stems: {vocals: [vox]}}'.")
    ] = "{}",
) -> None:
    """Read every file of a data set once and name what is wrong."""
    from zoo.cli.data import check_data

    raise typer.Exit(check_data(folder, dataset, arguments))


@data.command()
def scene(
    output: Annotated[str, typer.Argument(help="Folder, made when missing.")],
    root: Annotated[
        str | None, typer.Option(help="Of the songs; generated ones by default.")
    ] = None,
    of: Annotated[
        str | None, typer.Option("--data", help="Id of their data set, such as musdb18hq.")
    ] = None,
    arguments: Annotated[
        str, typer.Option(help="Of the scenes: '{scenes: {x: {pair: ortf}}}'.")
    ] = "{}",
    songs: Annotated[int, typer.Option(min=1, help="How many of them.")] = 1,
    split: Annotated[
        str, typer.Option(click_type=click.Choice(["train", "valid", "test"]), help="Of the songs.")
    ] = "test",
) -> None:
    """Write songs whose sources are at known places: mixture, images, positions, a plan."""
    from zoo.cli.data import write_scenes

    write_scenes(output, root, of, arguments, songs, split)


@data.command()
def generate(
    output: Annotated[str, typer.Argument(help="Folder, made when missing.")],
    songs: Annotated[int, typer.Option(min=1, help="Number of training songs.")] = 20,
    test_songs: Annotated[
        int | None,
        typer.Option(
            min=0, help="For validation, and as many for the test; else a fifth of --songs."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of a song.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Other songs for every other number.")] = 0,
    layout: Annotated[
        str,
        typer.Option(click_type=click.Choice(["plain", "musdb", "dsd100"]), help="Of the folders."),
    ] = "plain",
    rate: Annotated[int, typer.Option(help="Samples per second.")] = 44100,
    renderer: Annotated[
        str,
        typer.Option(
            click_type=click.Choice(["synth", "soundfont"]),
            help="numpy alone, or the instruments of a SoundFont.",
        ),
    ] = "synth",
    font: Annotated[
        str | None, typer.Option(help="The SoundFont; else $ZOO_SOUNDFONT, else the system's.")
    ] = None,
    one_shots: Annotated[
        str | None, typer.Option(help="Folder of recorded drums, loops and bass notes.")
    ] = None,
    vocals: Annotated[str | None, typer.Option(help="Folder of dry singing.")] = None,
) -> None:
    """Write generated songs in stems, for training without a download."""
    from zoo.cli.data import generate_data

    count = max(1, songs // 5) if test_songs is None else test_songs
    generate_data(
        output,
        layout,
        n_train=songs,
        n_valid=count,
        n_test=count,
        seconds=seconds,
        seed=seed,
        sample_rate=rate,
        renderer=renderer,
        font=font,
        one_shots=one_shots,
        vocals=vocals,
    )


@data.command()
def get(
    id: Annotated[
        str | None, typer.Argument(help="A data set; none: the list of them.", show_default=False)
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Folder to make; $ZOO_DATA/ID or data/ID by default."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Another address of its archive: a mirror, a link sent.")
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Agree to its licence.")] = False,
    progress: Annotated[
        str, typer.Option(click_type=click.Choice(KINDS), help="How it is shown.")
    ] = "auto",
) -> None:
    """Download a data set, or go on with it, once its licence is agreed to."""
    from zoo.cli.data import get_data, list_downloads

    if id is None:
        list_downloads()
        return
    raise typer.Exit(get_data(id, output, url, yes, progress))
