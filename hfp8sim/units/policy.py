"""Layer policies: which layers are computed with another profile, by rule.

The papers keep some layers in 16 bits: `first=fp16,last=fp16` is HFP8's. A rule names layers, a profile
follows it; the first rule that fits a layer holds for all its phases, and a layer that none fits takes
the run's profile. Rules:

- `first`, `last`: the network's first and last layer;
- `depthwise`: convolutions with one input channel per group;
- anything else: a pattern of layer names, with `*`, `?` and `[…]` as in a shell. Case counts.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

from hfp8sim.errors import InputError, unknown
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


def parse(policy: PolicyLike | None) -> Rules:
    """The rules of a policy in order; `InputError` for what is no rule or no profile."""
    if not policy:
        return ()
    if isinstance(policy, str):
        pairs: list[tuple[str, str | Profile]] = []
        for part in policy.split(","):
            rule, _, name = (word.strip() for word in part.rpartition("="))
            if not rule or not name:
                raise InputError(
                    f"policy {part.strip()!r}: write it as rule=profile, as in first=fp16,last=fp16"
                )
            pairs.append((rule, name))
    else:
        pairs = list(policy.items() if isinstance(policy, Mapping) else policy)
    rules = []
    for rule, profile in pairs:
        try:
            rules.append((rule, get_profile(profile)))
        except InputError as error:
            raise InputError(f"policy {rule}: {error}") from None
    return tuple(rules)


def assign(workload: Workload, profile: Profile, rules: Rules) -> list[tuple[Profile, str]]:
    """For every layer its profile and the rule that gave it ("" where none fits).

    A pattern that fits no layer of the workload is an `InputError`, as it is a slip; `first`, `last` and
    `depthwise` may fit none, so that one policy serves many networks.
    """
    count, names = len(workload), [layer.name for layer in workload]
    for rule, _ in rules:
        if rule not in WORDS and not any(fnmatch.fnmatchcase(name, rule) for name in names):
            raise unknown("policy rule", rule, [*WORDS, *names])
    chosen = []
    for index, layer in enumerate(workload):
        for rule, special in rules:
            word = WORDS.get(rule)
            if word(index, count, layer) if word else fnmatch.fnmatchcase(layer.name, rule):
                chosen.append((special, rule))
                break
        else:
            chosen.append((profile, ""))
    return chosen
