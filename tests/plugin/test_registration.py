"""What ``register`` takes and refuses."""

from __future__ import annotations

import pytest

from dadkit.plugin.records import PluginRecord
from dadkit.plugin.registration import Registration, RegistrationError

GOOD = {"name": "small", "target": "package.module:Name", "api": 1}


@pytest.fixture
def registration():
    return Registration(PluginRecord("acme", "dadkit_acme", "dadkit-acme", "0.1", "/somewhere"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Small"}, r"name 'Small' must be lower case text like 'depth-x-large'"),
        ({"name": "acme/small"}, "name 'acme/small' must be lower case"),
        ({"name": ""}, "name '' must be"),
        ({"name": 3}, "name 3 must be"),
        ({"target": "package.module"}, "target must be text of the form 'package.module:Name'.*got 'package.module'"),
        ({"target": dict}, "target must be text of the form .*got <class 'dict'>"),
        ({"target": "package.module:Name()"}, "target must be text"),
        ({"target": ".relative:Name"}, "target must be text"),
        ({"api": 3}, "teacher 'small' is written for api=3, this dadkit drives 1, 2; upgrade dadkit"),
        ({"api": 0}, "upgrade the plugin"),
        ({"api": "1"}, "api must be the number of the component contract, 2, got '1'"),
        ({"api": True}, "api must be the number"),
        ({"summary": "two\nlines"}, "summary must be one line of text"),
        ({"space": "disparit"}, r"space 'disparit' is none of disparity, depth, scale, metric; did you mean 'disparity'\?"),
        ({"space": 1}, "space 1 is none of"),
        ({"size_multiple": 0}, "size_multiple must be a whole number of at least 1, got 0"),
        ({"size_multiple": 14.0}, "size_multiple must be a whole number"),
        ({"size_multiple": True}, "size_multiple must be a whole number"),
        ({"license": 1}, "license must be one line of text, got 1"),
        ({"config": "Options"}, "config must be text of the form"),
        ({"arguments": [1]}, r"arguments must map names .* got \[1\]"),
        ({"arguments": {"a b": 1}}, "arguments must map names"),
        ({"arguments": {"a": object}}, "argument 'a' must be plain data"),
        ({"arguments": {"a": [{"b": {1: 2}}]}}, "argument 'a' must be plain data"),
        ({"requires": "xformers"}, "requires must be a list of texts, got 'xformers'"),
        ({"requires": ["xformers >< 3"]}, "requirement 'xformers >< 3' cannot be read"),
        ({"aliases": "old"}, "aliases must be a list of texts"),
        ({"aliases": ["Old"]}, "an alias 'Old' must be lower case"),
        ({"aliases": ["small"]}, "teacher 'acme/small' is registered twice"),
        ({"summry": "x"}, r"register has no argument 'summry'; did you mean 'summary'\?"),
        ({"quux": "x"}, "register has no argument 'quux'; it has api, summary, space"),
    ],
)
def test_what_cannot_be_right_is_refused(registration, change, message):
    with pytest.raises(RegistrationError, match=message):
        registration.register_for("teacher")(**(GOOD | change))
    if "aliases" not in change:
        assert registration.close() == ()


def test_one_name_may_be_of_several_kinds_but_only_once_of_each(registration):
    registration.register_for("teacher")(**GOOD)
    registration.register_for("student")(**GOOD)
    with pytest.raises(RegistrationError, match="student 'acme/small' is registered twice"):
        registration.register_for("student")("large", "a:b", api=1, aliases=["small"])
    assert [(component.kind, component.name) for component in registration.close()] == [
        ("teacher", "acme/small"),
        ("student", "acme/small"),
    ]


def test_registering_after_the_hook_is_refused(registration):
    register = registration.register_for("teacher")
    registration.close()
    with pytest.raises(RegistrationError, match="after its hook had returned"):
        register(**GOOD)


def test_arguments_are_copied(registration):
    arguments = {"sizes": [1, 2]}
    registration.register_for("teacher")(**GOOD, arguments=arguments)
    arguments["sizes"].append(3)
    assert registration.close()[0].arguments == {"sizes": [1, 2]}
