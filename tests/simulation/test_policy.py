"""Layer policies: which rule applies to which layer, and bad policies."""

import pytest

from hfp8sim.errors import InputError
from hfp8sim.network import Conv, Layer, Workload
from hfp8sim.units import get_profile
from hfp8sim.units.policy import assign, parse

NET = Workload(
    "net",
    (
        Layer.from_conv("stem", Conv(1, 8, 8, 3, 8, (3, 3))),
        Layer.from_conv("block1.depthwise", Conv(1, 6, 6, 8, 8, (3, 3), groups=8)),
        Layer.from_conv("block1.pointwise", Conv(1, 4, 4, 8, 16, (1, 1))),
        Layer("head", "linear", 1, 10, 256),
    ),
)


def applied(policy: object) -> list[tuple[str, str]]:
    """Profile name and rule of every layer."""
    result = assign(NET, get_profile("hfp8"), parse(policy))  # type: ignore[arg-type]
    return [(profile.name, rule) for profile, rule in result]


def test_no_policy_keeps_the_profile_of_the_run() -> None:
    assert applied(None) == applied("") == applied({}) == [("hfp8", "")] * 4


def test_words_name_layers_by_role() -> None:
    assert applied("first=fp16, last=exact,depthwise=fp8-2018") == [
        ("fp16", "first"),
        ("fp8-2018", "depthwise"),
        ("hfp8", ""),
        ("exact", "last"),
    ]


def test_patterns() -> None:
    assert applied("block1.*=fp16") == [
        ("hfp8", ""),
        ("fp16", "block1.*"),
        ("fp16", "block1.*"),
        ("hfp8", ""),
    ]
    assert applied("[hs]*=fp16")[0] == ("fp16", "[hs]*")


def test_the_first_rule_that_fits_holds() -> None:
    assert applied("*=fp16,first=exact")[0] == ("fp16", "*")
    assert applied("first=exact,*=fp16")[0] == ("exact", "first")


def test_rule_with_a_profile_record() -> None:
    special = get_profile("fp16").replace(chunk_length=8)
    result = assign(NET, get_profile("hfp8"), parse([("first", special)]))
    assert result[0] == (special, "first")


def test_layer_named_like_a_word() -> None:
    """A pattern reaches it: a word never means a name."""
    net = Workload("net", (Layer("a", "linear", 1, 1, 1), Layer("first", "linear", 1, 1, 1)))
    assert [rule for _, rule in assign(net, get_profile("hfp8"), parse("[f]irst=fp16"))] == [
        "",
        "[f]irst",
    ]


def test_words_may_fit_no_layer() -> None:
    net = Workload("net", (Layer("a", "linear", 1, 1, 1),))
    assert assign(net, get_profile("hfp8"), parse("depthwise=fp16")) == [(get_profile("hfp8"), "")]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("first", "write it as rule=profile"),
        ("first=", "write it as rule=profile"),
        ("=fp16", "write it as rule=profile"),
        ("first=fp16,,", "write it as rule=profile"),
        ("first=fp61", "policy first: unknown profile 'fp61'; did you mean fp16 or"),
        ("frist=fp16", "unknown policy rule 'frist'; did you mean first?"),
        ("block2.*=fp16", "unknown policy rule 'block2.*'"),
        ("Stem=fp16", "did you mean stem"),
    ],
)
def test_parse_refuses_bad_policies_in_one_line(policy: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        applied(policy)
    assert says in str(refused.value) and "\n" not in str(refused.value)
