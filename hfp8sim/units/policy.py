"""Layer policies: which layers are computed with another profile, by rule.

The papers keep some layers in 16 bits: `first=fp16,last=fp16` is HFP8's. A rule names layers, a profile
follows it; the first rule that fits a layer holds for all its phases, and a layer that none fits takes
the run's profile. Rules:

- `first`, `last`: the network's first and last layer;
- `depthwise`: convolutions with one input channel per group;
- anything else: a layer's name, or a pattern of names, with `*`, `?` and `[…]` as in a shell. Case counts.

In a text, a name with commas is written in double quotes, and a quote in it twice: `"conv, 1"=fp16,last=fp16`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence

from hfp8sim.errors import InputError, located, unknown
from hfp8sim.network import Layer, Workload
from hfp8sim.units import Profile, get_profile

#: What a policy is given as: text, pairs in a mapping, or pairs in order.
PolicyLike = str | Mapping[str, str | Profile] | Sequence[tuple[str, str | Profile]]

#: Rules that are words: whether they fit a layer (its position, the count of layers, the layer).
WORDS: dict[str, Callable[[int, int, Layer], bool]] = {
    "first": lambda index, count, layer: index == 0,
    "last": lambda index, count, layer: index == count - 1,
    "depthwise": lambda index, count, layer: layer.conv is not None and layer.conv.depthwise,
}

Rules = tuple[tuple[str, Profile], ...]

#: The parts of a text between commas, of which those in quotes are none; and a quoted rule.
_PARTS = re.compile(r'(?:^|(?<=,))((?:\s*"(?:[^"]|"")*"(?=\s*=))?[^,]*)')
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def parse(policy: PolicyLike | None) -> Rules:
    """The rules of a policy in order; `InputError` for what is no rule or no profile."""
    rules = []
    for rule, profile in rule_pairs(policy):
        with located(f"policy {rule}"):
            rules.append((rule, get_profile(profile)))
    return tuple(rules)


def rule_pairs(policy: PolicyLike | None) -> list[tuple[str, str | Profile]]:
    """The rules of a policy in order, each with what it gives to a layer; `InputError` for what is no rule."""
    if not policy:
        return []
    if isinstance(policy, str):
        return [_pair(part) for part in _PARTS.findall(policy)]
    try:
        pairs = [(r, p) for r, p in (policy.items() if isinstance(policy, Mapping) else policy)]
    except (TypeError, ValueError):
        raise InputError(f"policy is {policy!r:.60}; it must be rules with profiles") from None
    for rule, _ in pairs:
        if not isinstance(rule, str):
            raise InputError(f"policy {rule!r}: a rule must be a text")
    return pairs


def _pair(part: str) -> tuple[str, str]:
    """The rule and the profile's name of one `rule=profile`."""
    rule, _, name = (word.strip() for word in part.rpartition("="))
    if not rule or not name:
        raise InputError(
            f"policy {part.strip()!r}: write it as rule=profile, as in first=fp16,last=fp16"
        )
    if quoted := _QUOTED.fullmatch(rule):
        rule = quoted[1].replace('""', '"')
    return rule, name


def assign(workload: Workload, profile: Profile, rules: Rules) -> list[tuple[Profile, str]]:
    """For every layer its profile and the rule that gave it ("" where none fits).

    A pattern that fits no layer of the workload is an `InputError`, as it is a slip; `first`, `last` and
    `depthwise` may fit none, so that one policy serves many networks.
    """
    count, names = len(workload), [layer.name for layer in workload]
    for rule, _ in rules:
        if rule not in WORDS and not any(_fits(name, rule) for name in names):
            raise unknown("policy rule", rule, [*WORDS, *names])
    chosen = []
    for index, layer in enumerate(workload):
        for rule, special in rules:
            word = WORDS.get(rule)
            if word(index, count, layer) if word else _fits(layer.name, rule):
                chosen.append((special, rule))
                break
        else:
            chosen.append((profile, ""))
    return chosen


def _fits(name: str, rule: str) -> bool:
    """Whether a layer's name is the rule, or fits it as a pattern."""
    return name == rule or fnmatch.fnmatchcase(name, rule)
