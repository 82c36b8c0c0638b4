"""Images from folders, list files and tar shards: which are found, what they are called, what is said when there are none."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data import Images, SampleError
from dadkit.data.folders import expand_braces, normalise_extensions
from dadkit.data.packed import PackedStrings, repeated
from dadkit.data.shard_index import index_file, open_shard
from dadkit.data.sources import inside, keys_with_suffix
from dadkit.errors import DataError

FolderOf = Callable[..., Path]


def keys(dataset: Images) -> list[str]:
    return [dataset.key(i) for i in range(len(dataset))]


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


_tar_open = tarfile.open


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(exist_ok=True)
    with _tar_open(path, mode, format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


# ------------------------------------------------------------------------------------------------ folders


def test_folders_are_read_recursively_in_a_fixed_order(folder_of: FolderOf) -> None:
    root = folder_of("b.jpg", "a.png", "sub/deep/c.JPG", "sub/a.jpg", "Z.webp")
    (root / "notes.txt").write_text("no image")
    dataset = Images(root)
    assert keys(dataset) == ["Z", "a", "b", "sub/a", "sub/deep/c"]
    assert [dataset[i].key for i in range(5)] == keys(dataset)
    sample = dataset[1]
    assert sample.image.shape == (3, 96, 128)
    assert sample.depth is sample.valid is sample.space is None
    with pytest.raises(IndexError):
        dataset[5]


def test_equal_stems_keep_their_extension(folder_of: FolderOf) -> None:
    root = folder_of("a.jpg", "a.png", "sub/a.jpg", "b.jpg", "c.png", "c.png.jpg")
    assert keys(Images(root)) == ["a.jpg", "a.png", "b", "c", "c.png", "sub/a"]
    # c.png.jpg has the stem c.png, which is a key only of its own here
    assert keys_with_suffix(["c.png", "c.jpg", "c.png.jpg"]).all()


def test_equal_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"the same name: 'a\.jpg'"):
        keys_with_suffix(["a.jpg", "a.jpg"])


def test_hidden_files_and_folders_are_left_out(folder_of: FolderOf) -> None:
    root = folder_of("a.jpg", "._a.jpg", ".thumbnails/a.jpg")
    assert keys(Images(root)) == ["a"]


def test_symlinked_folders_are_followed_once_and_without_loops(folder_of: FolderOf) -> None:
    root = folder_of("real/a.jpg", "b.jpg")
    other = folder_of("c.jpg", "d/e.jpg", at="elsewhere")
    os.symlink(root, root / "real" / "loop")
    os.symlink(root / "real", root / "again")
    os.symlink(other, root / "linked")
    os.symlink(other / "d", root / "zinked")
    os.symlink(root / "b.jpg", root / "same.jpg")
    assert keys(Images(root)) == ["b", "linked/c", "linked/d/e", "real/a", "same"]


def test_dangling_links_are_counted_when_they_are_read(folder_of: FolderOf) -> None:
    root = folder_of("a.jpg")
    os.symlink(root / "gone.jpg", root / "b.jpg")
    dataset = Images(root)
    assert len(dataset) == 2
    with pytest.raises(SampleError, match=r"b\.jpg: the file does not exist"):
        dataset[1]


def test_extensions_can_be_chosen(folder_of: FolderOf) -> None:
    root = folder_of("a.jpg", "b.png", "c.bmp")
    assert keys(Images(root, extensions=["PNG", ".bmp"])) == ["b", "c"]
    assert normalise_extensions(["JPG", ".Png"]) == (".jpg", ".png")


def test_unreadable_and_unfit_images_are_sample_errors(folder_of: FolderOf) -> None:
    root = folder_of("a.jpg", "icon.png", size=(48, 48))
    (root / "broken.jpg").write_bytes((root / "a.jpg").read_bytes()[:-40])
    dataset = Images(root, min_size=40, max_pixels=48 * 48)
    assert dataset[0].image.shape == (3, 48, 48)
    with pytest.raises(SampleError, match=r"broken\.jpg: cannot be decoded: image file is truncated"):
        dataset[1]
    with pytest.raises(SampleError, match=r"icon\.png: 48 x 48 pixels: a side is shorter than min_size = 64"):
        Images(root)[2]
    with pytest.raises(SampleError, match="max_pixels"):
        Images(root, max_pixels=100)[0]
    with pytest.raises(ValueError, match="must be positive"):
        Images(root, min_size=0)


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images in .*empty: looked for .*\.jpg.*all subfolders") as caught:
        Images(tmp_path / "empty")
    assert caught.value.exit_code == 3
    for number in range(3):
        (tmp_path / "empty" / f"{number}.CR2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"found 3 other files, 3 of them \.cr2"):
        Images(tmp_path / "empty")
    with pytest.raises(DataError, match=r"nowhere does not exist \(looked for /"):
        Images(tmp_path / "nowhere")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(DataError, match="neither a folder, a list file"):
        Images(tmp_path / "a.doc")
    with pytest.raises(DataError, match="the list of roots is empty"):
        Images([])


# --------------------------------------------------------------------------------------------- list files


def test_list_files_name_images_relative_to_themselves(folder_of: FolderOf, tmp_path: Path) -> None:
    root = folder_of("a.jpg", "with space, and comma/b #1.jpg")
    outside = folder_of("c.png", at="outside")
    lines = ["\ufeff# a comment", "", "  with space, and comma/b #1.jpg\r", "./a.jpg", str(outside / "c.png")]
    (root / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    dataset = Images(root / "list.txt")
    assert keys(dataset) == ["with space, and comma/b #1", "a", str(outside / "c").lstrip("/")]
    assert all(dataset[i].image.shape == (3, 96, 128) for i in range(3))


def test_keys_never_lead_out_of_a_folder() -> None:
    assert inside("/etc/../a/./b//c") == "etc/_up/a/b/c"


def test_lists_with_missing_or_repeated_files_are_refused(folder_of: FolderOf) -> None:
    root = folder_of("a.jpg")
    (root / "list.txt").write_text("a.jpg\n\nb.jpg\nc.jpg\n")
    with pytest.raises(
        DataError, match=r"2 of the 3 files that .*list\.txt names do not exist, first line 3: 'b\.jpg' \(looked"
    ):
        Images(root / "list.txt")
    (root / "list.txt").write_text("a.jpg\n./a.jpg\n")
    with pytest.raises(DataError, match=r"names 'a\.jpg' twice, in lines 1 and 2"):
        Images(root / "list.txt")
    (root / "list.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="names no file"):
        Images(root / "list.txt")
    (root / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        Images(root / "list.txt")


# --------------------------------------------------------------------------------------------- tar shards


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_are_read_in_place(tmp_path: Path, picture, form: int) -> None:
    long = "x/" * 40 + "long.png"
    arrays = {f"{i:03d}.png": picture(seed=i) for i in range(5)} | {long: picture(seed=9)}
    members = {"000.txt": b"a caption", **{name: png(array) for name, array in arrays.items()}, "._000.png": b"junk"}
    shard = write_tar(tmp_path / "s.tar", members, form=form)
    with tarfile.open(shard, "a") as tar:
        tar.addfile(_link("link.png"))
    dataset = Images(shard)
    assert keys(dataset) == ["s/" + name.removesuffix(".png") for name in arrays]
    for index, array in enumerate(arrays.values()):
        np.testing.assert_array_equal(dataset[index].image.permute(1, 2, 0).numpy(), array)


def _link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "000.png"
    return info


def test_folders_and_patterns_of_shards(tmp_path: Path, picture) -> None:
    for number in range(3):
        write_tar(tmp_path / "shards" / f"part-{number:02d}.tar", {f"{i}.png": png(picture(seed=i)) for i in range(2)})
    Image.fromarray(picture()).save(tmp_path / "shards" / "loose.png")
    assert keys(Images(tmp_path / "shards")) == ["loose"] + [f"part-0{s}/{i}" for s in range(3) for i in range(2)]
    pattern = str(tmp_path / "shards" / "part-{00..01}.tar")
    assert keys(Images(pattern)) == ["part-00/0", "part-00/1", "part-01/0", "part-01/1"]
    with pytest.raises(DataError, match=r"1 of the 4 shards .* do not exist, first .*part-03\.tar"):
        Images(str(tmp_path / "shards" / "part-{00..03}.tar"))


def test_patterns_over_folders_name_shards_apart(tmp_path: Path, picture) -> None:
    for folder in "ab":
        write_tar(tmp_path / folder / "x.tar", {"1.png": png(picture())})
    assert keys(Images(str(tmp_path / "{a,b}" / "x.tar"))) == ["a/x/1", "b/x/1"]


def test_braces_expand_as_in_a_shell() -> None:
    assert expand_braces("s-{08..11}.tar") == ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]
    assert expand_braces("{a,b}/{1..2}") == ["a/1", "a/2", "b/1", "b/2"]
    assert expand_braces("plain") == ["plain"]


def test_bad_shards_are_named(tmp_path: Path, picture) -> None:
    data = png(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole = write_tar(tmp_path / "whole.tar", {"a.png": data, "b.png": data}).read_bytes()
    cuts = (len(data) // 2, 512 + -(-len(data) // 512) * 512 + 100)  # in a member, in a header
    for length in cuts:
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.tar \(\d members were readable\)"):
            Images(tmp_path / "cut.tar")
    garbled = bytearray(whole)
    second = 512 + -(-len(data) // 512) * 512
    garbled[second : second + 512] = b"garbage!" * 64
    (tmp_path / "garbled.tar").write_bytes(garbled)
    with pytest.raises(DataError, match=r"garbled\.tar \(1 members were readable\): no valid header at byte"):
        Images(tmp_path / "garbled.tar")
    compressed = write_tar(tmp_path / "s.tar.gz", {"a.png": data}, "w:gz")
    with pytest.raises(DataError, match="is compressed"):
        Images(compressed)
    compressed.rename(tmp_path / "lies.tar")
    with pytest.raises(DataError, match="not compressed"):
        Images(tmp_path / "lies.tar")
    with pytest.raises(DataError, match=r"no images in .*texts\.tar: .*found 1 other files, 1 of them \.txt"):
        Images(write_tar(tmp_path / "texts.tar", {"a.txt": b"x"}))


def test_of_two_members_with_one_name_the_later_holds(tmp_path: Path, picture) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(picture(seed=1))})
    with tarfile.open(shard, "a") as tar:
        info, data = tarfile.TarInfo("a.png"), png(picture(seed=2))
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    dataset = Images(shard)
    assert len(dataset) == 1
    np.testing.assert_array_equal(dataset[0].image.permute(1, 2, 0).numpy(), picture(seed=2))


def test_the_second_start_reads_no_headers_and_a_changed_shard_is_noticed(tmp_path: Path, picture, monkeypatch) -> None:
    members = {f"sub/{i}.png": png(picture(seed=i)) for i in range(3)} | {"sub/0.txt": b"caption"}
    shard = write_tar(tmp_path / "s.tar", members)
    first = Images(shard)
    assert index_file(shard).is_file()
    index = open_shard(shard)
    assert [(name, index.read(i)) for i, name in enumerate(index.names)] == list(members.items())
    opened = []
    monkeypatch.setattr(tarfile, "open", lambda path, *args, **kw: opened.append(path) or _tar_open(path, *args, **kw))
    again = Images(tmp_path)
    assert opened == []
    assert keys(again) == keys(first)
    assert all(torch.equal(again[i].image, first[i].image) for i in range(3))
    other = write_tar(tmp_path / "other.tar", {"new.png": members["sub/1.png"]})
    opened.clear()
    os.replace(other, shard)
    assert keys(Images(shard)) == ["s/new"]
    changed = write_tar(tmp_path / "s.tar", {"won.png": members["sub/1.png"]})  # as long as the one before
    os.utime(changed, ns=(0, 1))
    assert keys(Images(shard)) == ["s/won"]
    opened.clear()
    assert keys(Images(shard)) == ["s/won"]
    assert opened == []


def test_an_index_is_kept_elsewhere_where_it_cannot_lie_beside_the_shard(tmp_path: Path, picture, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shard = write_tar(tmp_path / "data" / "s.tar", {"a.png": png(picture())})
    mine = index_file(shard)
    mine.write_text("a user's own file of that name")
    assert keys(Images(shard)) == ["s/a"]
    assert mine.read_text() == "a user's own file of that name"
    (kept,) = (tmp_path / "cache" / "dadkit" / "shards").iterdir()
    opened = []
    monkeypatch.setattr(tarfile, "open", lambda path, *args, **kw: opened.append(path) or _tar_open(path, *args, **kw))
    assert keys(Images(shard)) == ["s/a"]
    assert opened == []
    kept.write_bytes(kept.read_bytes()[:-200])  # a torn index is none; nor is the lack of any place an error
    monkeypatch.setenv("XDG_CACHE_HOME", str(shard))
    assert keys(Images(shard)) == ["s/a"]


def test_a_shard_that_shrinks_or_vanishes_is_a_sample_error(tmp_path: Path, picture) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(picture())})
    dataset = Images(shard)
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(SampleError, match=r"s\.tar: a\.png: the shard ends after"):
        dataset[0]
    shard.unlink()
    with pytest.raises(SampleError, match="the shard cannot be read"):
        dataset[0]


# -------------------------------------------------------------------------------------------- all together


def test_several_roots_prefix_their_keys(folder_of: FolderOf, tmp_path: Path, picture) -> None:
    first, second = folder_of("a.jpg", at="one/photos"), folder_of("a.jpg", at="two/photos")
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(picture())})
    dataset = Images([first, str(second), shard])
    assert keys(dataset) == ["photos/a", "photos-2/a", "s/s/a"]
    assert [dataset[i].key for i in range(3)] == keys(dataset)


def test_datasets_survive_pickling(folder_of: FolderOf, tmp_path: Path, picture) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(picture())})
    dataset = Images([folder_of("a.jpg", "b.jpg"), shard])
    copy = pickle.loads(pickle.dumps(dataset))
    assert keys(copy) == keys(dataset)
    assert all(torch.equal(copy[i].image, dataset[i].image) for i in range(3))


def test_packed_strings_are_a_small_sequence() -> None:
    names = [f"folder-{i // 1000}/photograph-{i:08d}.jpg" for i in range(20_000)] + ["", "ünï", os.fsdecode(b"\xff.jpg")]
    packed = PackedStrings(names)
    assert len(packed) == len(names)
    assert list(packed) == names
    assert packed[-1] == names[-1]
    assert packed[5:8] == names[5:8]
    with pytest.raises(IndexError):
        packed[len(names)]
    assert packed.nbytes < 48 * len(names)  # a list takes 49 bytes a string more than its characters, and a pointer
    assert len(pickle.dumps(packed)) < 48 * len(names) + 1000


def test_keys_of_many_names_take_numbers_and_no_objects() -> None:
    names = PackedStrings(f"folder-{i // 1000}/photograph-{i:08d}.jpg" for i in range(100_000))
    tracemalloc.start()
    keep = keys_with_suffix(names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not keep.any()
    assert peak < 30 * len(names)  # a list of them takes 90 bytes a name
    assert repeated(["x", "y", "x", "z", "y", ""]).tolist() == [True, True, True, False, True, False]
