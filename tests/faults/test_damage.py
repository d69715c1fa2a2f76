import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trajvit
from harness import contents
from trajvit.datasets.store import record_key
from trajvit.datasets.verification import verify
from trajvit.settings import InputError

DAMAGES = 200
SAMPLES, SHARD, SHARDS = 22, 8, 3


def flip(root: Path, chance: random.Random) -> None:
    path = any_file(root, chance)
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(root: Path, chance: random.Random) -> None:
    path = any_file(root, chance)
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def lengthen(root: Path, chance: random.Random) -> None:
    with open(any_file(root, chance), "ab") as file:
        file.write(chance.randbytes(1 + chance.randrange(9)))


def zero(root: Path, chance: random.Random) -> None:
    path = any_file(root, chance)
    path.write_bytes(bytes(path.stat().st_size))


def delete(root: Path, chance: random.Random) -> None:
    any_file(root, chance).unlink()


def swap_shards(root: Path, chance: random.Random) -> None:
    """Two files of one array, or of all arrays, change places."""
    one, other = chance.sample(range(SHARDS), 2)
    arrays = ["frames", "label", "points", "pixels", "radius"]
    for array in [chance.choice([name for name in arrays if name != "label"])] if chance.random() < 0.5 else arrays:
        tail = {"frames": ".0.0.0.0", "label": "", "radius": ".0"}.get(array, ".0.0")
        exchange(root / array / f"c.{one}{tail}", root / array / f"c.{other}{tail}")


def swap_records(root: Path, chance: random.Random) -> None:
    one, other = chance.sample(range(SHARDS), 2)
    exchange(root / record_key(one), root / record_key(other))


def swap_arrays(root: Path, chance: random.Random) -> None:
    """What describes one array is put in the place of what describes another."""
    one, other = chance.sample(["frames", "label", "points", "pixels", "radius"], 2)
    exchange(root / one / "zarr.json", root / other / "zarr.json")


def edit_record(root: Path, chance: random.Random) -> None:
    path = root / record_key(chance.randrange(SHARDS))
    record = json.loads(path.read_text())
    name = chance.choice([*record, "sha256", "bytes", *["note"] * 3])
    if name in ("sha256", "bytes"):
        file = record["files"][chance.choice(list(record["files"]))]
        file[name] = file[name][::-1] if name == "sha256" else file[name] + 1
    elif name == "files":
        del record["files"][chance.choice(list(record["files"]))]
    else:
        record[name] = record[name] + 1 if isinstance(record.get(name), int) else "edited"
    path.write_text(json.dumps(record, indent=2) + "\n")


def edit_config(root: Path, chance: random.Random) -> None:
    """The dataset is made to say that it is another, in the one copy of its config or in the other."""
    path = root / chance.choice(["zarr.json", "_done/zarr.json"])
    told = json.loads(path.read_text())
    config = told["attributes"]["config"]
    name = chance.choice(["seed", "samples", "shard_size", "split"])
    config[name] = "test" if name == "split" else config[name] + 1
    path.write_text(json.dumps(told, indent=2))


KINDS: list[Callable[[Path, random.Random], None]] = [
    flip,
    truncate,
    lengthen,
    zero,
    delete,
    swap_shards,
    swap_records,
    swap_arrays,
    edit_record,
    edit_config,
]
READ_CANNOT_TELL = (swap_shards,)  # each chunk's crc is right; that they are another shard's, verify tells


def any_file(root: Path, chance: random.Random) -> Path:
    return root / chance.choice(sorted(contents(root)))


def exchange(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def test_200_damages_are_all_found_and_repaired_to_the_same_bytes(quick_path):
    chance, seen, told_lies = random.Random(0), Counter(), []
    root = trajvit.generate(out=quick_path / "data", samples=SAMPLES, shard_size=SHARD).root
    whole, truth = contents(root), trajvit.open_dataset(root).read()
    for n in range(DAMAGES):
        damage = KINDS[n % len(KINDS)]
        damage(root, chance)
        assert contents(root) != whole, (n, damage)
        try:
            read = trajvit.open_dataset(root).read()
            told_lies += [damage.__name__] * any((getattr(read, name) != getattr(truth, name)).any() for name in vars(truth))
        except InputError as error:
            assert str(root) in str(error) and "python -m trajvit" in str(error), (n, damage, error)
        found = verify(root)
        assert found.damaged and not found.sound and str(root) in str(found), (n, damage)
        assert verify(root, repair=True).sound, (n, damage)
        assert contents(root) == whole, (n, damage)
        seen[damage.__name__] += 1
    assert sum(seen.values()) == DAMAGES and set(told_lies) <= {kind.__name__ for kind in READ_CANNOT_TELL}
    print(f"{DAMAGES} damages found and repaired: {dict(seen)}")


def test_a_forged_shard_with_a_record_that_matches_it_is_found(quick_path):
    """Another world's shard, whose record was forged to vouch for it: all sums are right, but nobody films that."""
    from trajvit.datasets.folders import Disk
    from trajvit.datasets.generator import film_shard
    from trajvit.datasets.store import write_shard

    dataset = trajvit.generate(out=quick_path / "data", samples=SAMPLES, shard_size=SHARD)
    whole = contents(dataset.root)
    other = dataset.config.model_copy(update={"seed": 1})
    write_shard(Disk(dataset.root), dataset.config, 2, film_shard(other, *other.range(2)))
    found = verify(dataset.root)
    assert list(found.damaged) == [2] and "holds other samples" in found.damaged[2]
    assert verify(dataset.root, repair=True).sound and contents(dataset.root) == whole


def test_where_both_copies_of_the_config_are_lost_the_way_back_is_told_and_keeps_the_shards(quick_path):
    root = trajvit.generate(out=quick_path / "data", samples=SAMPLES, shard_size=SHARD).root
    whole = contents(root)
    shards = {path: path.stat().st_mtime_ns for path in root.glob("frames/c.*")}
    for name in ("zarr.json", "_done/zarr.json"):
        (root / name).write_text("?")
    with pytest.raises(InputError, match="both damaged or missing: remove"):
        verify(root, repair=True)
    for name in ("zarr.json", "_done/zarr.json"):
        (root / name).unlink()
    trajvit.generate(out=root, samples=SAMPLES, shard_size=SHARD)
    assert contents(root) == whole
    assert {path: path.stat().st_mtime_ns for path in root.glob("frames/c.*")} == shards


def test_what_is_damaged_is_named_with_the_command_that_repairs_it(quick_path):
    from harness import run

    root = trajvit.generate(out=quick_path / "data", samples=SAMPLES, shard_size=SHARD).root
    whole = contents(root)
    path = root / "radius" / "c.1.0"
    path.write_bytes(path.read_bytes()[::-1])
    code, out, err = run("verify", root)
    assert code == 1 and f"{path} has another sha256" in out
    assert f"python -m trajvit verify {root} --repair" in err.splitlines()[-1]
    code, out, err = run("verify", root, "--repair")
    assert code == 0 and "sound" in out and "Traceback" not in err
    assert contents(root) == whole
