"""Named recipes: each builds one or several models with known truth and recorded figures."""

from zoo.recipes.registry import GROUPS, RECIPES, Recipe, Workshop, resolve

__all__ = ["GROUPS", "RECIPES", "Recipe", "Workshop", "resolve"]
