"""`hfp8sim recipes`: list the recipes of training, or show one."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from hfp8sim.cli.common import app, console, list_table, say


class Form(enum.StrEnum):
    """Forms of the list."""

    table = "table"
    json = "json"


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="a recipe or a TOML file; without it all are listed")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="a table, or JSON")] = Form.table,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE,…", help="change NAME: update.random_bits=16"),
    ] = None,
) -> None:
    """List the recipes of a training step, or show one: what is rounded where."""
    from hfp8sim.errors import InputError
    from hfp8sim.recipes import describe, get_recipe
    from hfp8sim.recipes import recipes as names
    from hfp8sim.recipes.record import changed_recipe

    if set_ and not name:
        raise InputError("--set needs the name of a recipe")
    if form == Form.json:
        import json

        chosen = [changed_recipe(name, set_ or [])] if name else [get_recipe(n) for n in names()]
        listed = [describe.values(recipe) for recipe in chosen]
        print(json.dumps(listed[0] if name else listed, indent=2, ensure_ascii=False))
        return
    terminal = console()
    if not name:
        table = list_table(describe.OVERVIEW_HEADINGS)
        for row in describe.overview_rows():
            table.add_row(*row)
        terminal.print(table)
        return
    recipe = changed_recipe(name, set_ or [])
    for warning in recipe.warnings:
        say(warning)
    facts = list_table(("recipe", recipe.name))
    for row in describe.fields(recipe):
        facts.add_row(*row)
    sites = list_table(describe.SITE_HEADINGS)
    for row in describe.site_rows(recipe):
        sites.add_row(*row)
    terminal.print(facts)
    terminal.print()
    terminal.print(sites)
    for choice in recipe.choices:
        terminal.print(f"choice, not in the source: {choice}", markup=False, highlight=False)
