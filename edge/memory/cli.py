"""The ``memory`` command: look into a memory folder, also beside a running latentloop, without changing it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from edge.memory import ledger
from edge.memory.episode import KINDS, Episode
from edge.memory.ledger import MemoryUnavailable
from edge.state_folder import state_folder

_EXAMPLES = """examples:
  latentloop memory list --folder ~/yard --kind alarm
  latentloop memory show 17 --folder ~/yard --pictures pictures
  latentloop memory verify --folder ~/yard --json

exit codes: 0 all well, 1 a problem was found, 2 bad input
"""


def default_folder() -> Path:
    """Where the memory lies unless told otherwise: the user's state folder."""
    return state_folder() / "memory"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``memory`` command."""
    parser = subparsers.add_parser(
        "memory",
        help="list, show and verify what was remembered",
        description="Look into a memory folder without changing it; it may be in use.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=lambda args: _usage(parser))
    actions = parser.add_subparsers(metavar="{list,show,verify}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--folder", type=Path, default=default_folder(), help="memory folder (default: %(default)s)")
    shared.add_argument("--json", action="store_true", help="print JSON")

    listing = actions.add_parser("list", parents=[shared], help="the newest episodes, newest first")
    listing.add_argument("--limit", type=_positive, default=20, metavar="N", help="how many (default: %(default)s)")
    listing.add_argument("--kind", choices=KINDS, help="only this kind")
    listing.set_defaults(run=_list)

    show = actions.add_parser("show", parents=[shared], help="one episode in full")
    show.add_argument("id", type=_positive, help="episode number")
    show.add_argument("--pictures", type=Path, metavar="DIR", help="write its pictures there as JPEG files")
    show.set_defaults(run=_show)

    verify = actions.add_parser("verify", parents=[shared], help="check the whole file and every episode's checksum")
    verify.set_defaults(run=_verify)


def _usage(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return 2


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 0 < number < 1 << 62:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return number


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(ledger.open_for_reading(folder)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise MemoryUnavailable(
                f"{folder / ledger.FILE_NAME} cannot be read ({error}): run 'latentloop memory verify' on it"
            ) from None


def _list(args: argparse.Namespace) -> int:
    with _reading(args.folder) as connection:
        episodes = ledger.read_episodes(connection, args.limit, args.kind)
    if args.json:
        print(json.dumps([_summary(episode) for episode in episodes], indent=2))
        return 0
    for episode in episodes:
        cause = f" {episode.cause}" if episode.cause else ""
        print(f"{episode.id:>7}  {_when(episode)}  {episode.kind}{cause}  p={episode.p_value:.2g}  {episode.detail}")
    if not episodes:
        print("nothing was remembered yet")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _reading(args.folder) as connection:
        episode = ledger.read_episode(connection, args.id)
    if episode is None:
        raise MemoryUnavailable(
            f"there is no readable episode {args.id} in {args.folder}: 'latentloop memory list' shows what there is"
        )
    written: list[str] = []
    if args.pictures is not None:
        try:
            written = _write_pictures(episode, args.pictures)
        except OSError as error:
            raise MemoryUnavailable(
                f"the pictures cannot be written to {args.pictures} ({error.strerror}): choose a writable folder"
            ) from None
    facts = {
        **_summary(episode),
        "at_ns": episode.at_ns,
        "action": [round(float(value), 4) for value in episode.action],
        "latent_dim": len(episode.latent),
        "thumbnail_bytes": len(episode.thumbnail),
        "frames_before": len(episode.before),
        "frames_after": len(episode.after),
        "pictures": written,
    }
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:>16}  {value}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    path = args.folder / ledger.FILE_NAME
    if not path.is_file():
        raise MemoryUnavailable(
            f"there is no memory in {args.folder}: give the folder of a robot or camera with --folder"
        )
    damage = ledger.find_damage(path)
    unreadable: list[int] = []
    episodes = concepts = 0
    bundle = ""
    if not damage:
        with _reading(args.folder) as connection:
            unreadable = ledger.unreadable_episodes(connection)
            episodes = connection.execute("SELECT count(*) FROM episodes").fetchone()[0]
            concepts = connection.execute("SELECT coalesce(sum(number), 0) FROM concepts").fetchone()[0]
            bundle = ledger.read_meta(connection).get("bundle_sha256", "")
    facts = {
        "file": str(path),
        "ok": not damage and not unreadable,
        "damage": damage,
        "unreadable_episodes": unreadable,
        "episodes": episodes,
        "concepts": concepts,
        "bytes": ledger.bytes_on_disk(args.folder),
        "bundle_sha256": bundle,
        "set_aside": sorted(p.name for p in args.folder.glob(f"{path.name}.damaged-*") if p.name[-1].isdigit()),
    }
    if args.json:
        print(json.dumps(facts, indent=2))
    elif damage:
        print(f"{path} is damaged ({damage}): the next start will set it aside and begin an empty memory")
    elif unreadable:
        numbers = ", ".join(map(str, unreadable[:10]))
        print(
            f"{path}: {len(unreadable)} of {episodes} episodes do not fit their checksum and are not shown: {numbers}"
        )
    else:
        print(f"{path} is sound: {episodes} episodes, {concepts} concepts, {facts['bytes']} bytes")
    return 0 if facts["ok"] else 1


def _summary(episode: Episode) -> dict[str, object]:
    return {
        "id": episode.id,
        "when": _when(episode),
        "kind": episode.kind,
        "cause": episode.cause,
        "detail": episode.detail,
        "p_value": episode.p_value,
    }


def _when(episode: Episode) -> str:
    try:
        return datetime.fromtimestamp(episode.wall_s).astimezone().isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return "unknown time"


def _write_pictures(episode: Episode, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"thumbnail": episode.thumbnail} if episode.thumbnail else {}
    pictures |= {f"before-{number}": picture for number, picture in enumerate(episode.before, 1)}
    pictures |= {f"after-{number}": picture for number, picture in enumerate(episode.after, 1)}
    for name, picture in pictures.items():
        (folder / f"episode-{episode.id}-{name}.jpg").write_bytes(picture)
    return [str(folder / f"episode-{episode.id}-{name}.jpg") for name in pictures]
