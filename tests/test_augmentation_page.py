"""The page on augmentation against the keys that there are."""

import re
from dataclasses import fields

import yaml

from zoo.data.augmentation import Augmentation


def test_the_page_lists_every_key_in_order(checkout):
    page = (checkout / "docs" / "augmentation.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert listed == [field.name for field in fields(Augmentation)]


def test_the_recipe_of_the_page_is_one(checkout):
    page = (checkout / "docs" / "augmentation.md").read_text()
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    augment = Augmentation(**recipe["data"]["augment"])
    assert augment.pitch == {"vocals": [-4, 4]}
