"""How commands name models."""

from dadkit.cli.arguments import short_names, split_model


def test_a_registered_name_has_options_behind_a_colon():
    assert split_model("dav2/small:weights=a.pth,max_depth=20") == ("dav2/small", {"weights": "a.pth", "max_depth": 20})


def test_paths_are_shown_by_the_end_that_tells_them_apart(tmp_path):
    folders = [tmp_path / "one" / "student", tmp_path / "two" / "student", tmp_path / "two" / "teacher"]
    for folder in folders:
        folder.mkdir(parents=True)
    names = short_names([*map(str, folders), "dav2/tiny:weights=none"])
    assert names == ["one/student", "two/student", "teacher", "dav2/tiny:weights=none"]
    assert short_names([str(tmp_path / "one")]) == ["one"]
