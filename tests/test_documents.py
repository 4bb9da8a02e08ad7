"""What README, Meltano and the code say of settings and streams is the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.tables import __main__ as tables
from scripts.tables import settings
from stripe_alloy.api.schemas import api_version
from tap_stripe_alloy.tap import TapStripeAlloy
from target_stripe_alloy.settings import ALLOWED
from target_stripe_alloy.target import TargetStripeAlloy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MELTANO = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "locks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TAP = MELTANO["plugins"]["extractors"][0]


def declared() -> dict[str, Any]:
    schema = dict(TapStripeAlloy.config_jsonschema)
    TapStripeAlloy.append_builtin_config(schema)
    properties: dict[str, Any] = schema["properties"]
    return properties


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(title: str) -> list[str]:
    return [name for row in rows(title) for name in re.findall(r"`(\w+)`", row[0])]


def test_the_readme_lists_the_settings_there_are() -> None:
    assert sorted(names("Settings of the tap")) == sorted(declared())


def test_the_readme_lists_the_targets_settings() -> None:
    shared = re.findall(r"`(\w+)`", section("Settings of the target").split(".\n")[0])
    schema = dict(TargetStripeAlloy.config_jsonschema)
    TargetStripeAlloy.append_builtin_config(schema)
    without_effect = {"add_record_metadata", "load_method", "batch_size_rows"}
    expected = schema["properties"].keys() - without_effect
    assert sorted([*shared, *names("Settings of the target")]) == sorted(expected)


def test_meltano_declares_the_settings_there_are() -> None:
    assert sorted(setting["name"] for setting in TAP["settings"]) == sorted(declared())


def test_defaults_are_the_same_in_meltano() -> None:
    defaults = {setting["name"]: setting.get("value") for setting in TAP["settings"]}
    for name, setting in declared().items():
        if setting.get("default"):
            assert defaults[name] == setting["default"]
        else:
            assert defaults[name] is None


def test_secrets_are_marked_in_both() -> None:
    secret = {name for name, setting in declared().items() if setting.get("secret")}
    sensitive = {setting["name"] for setting in TAP["settings"] if setting.get("sensitive")}
    assert secret == sensitive == {"api_key", "webhook_inbox", "ignore_own_writes"}


def test_meltano_declares_the_capabilities_there_are() -> None:
    assert sorted(TAP["capabilities"]) == sorted(
        capability.value for capability in TapStripeAlloy.capabilities
    )


def test_every_setting_has_a_description() -> None:
    assert all(setting["description"] for setting in declared().values())
    assert all(setting["description"] for setting in TAP["settings"])


@pytest.mark.parametrize(
    ("kind", "plugin"), [("extractors", TapStripeAlloy), ("loaders", TargetStripeAlloy)]
)
def test_meltano_describes_settings_as_the_declarations_do(
    kind: str, plugin: type[TapStripeAlloy | TargetStripeAlloy]
) -> None:
    [described] = [found for found in MELTANO["plugins"][kind] if found["name"] == plugin.name]
    texts = {setting["name"]: setting["description"] for setting in described["settings"]}
    for name, setting in settings.own(plugin).items():
        version = f", {api_version()}"  # Meltano's file does not name it
        assert texts[name] == setting["description"].replace(version, "")


def test_the_tables_are_those_of_the_declarations() -> None:
    assert list(tables.outdated()) == []


def test_a_table_that_differs_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tables.TABLES, "streams", ("README.md", lambda: "| another |"))
    assert tables.main(["--check"]) == 1
    assert "README.md: a table differs" in capsys.readouterr().err


def test_a_table_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table of streams"):
        tables.renewed("# Title", "streams", "| a |")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_every_permission_is_in_the_table() -> None:
    text = (ROOT / "docs/writing.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in ALLOWED)


def test_the_locks_name_no_place_to_install_from() -> None:
    for lock in (ROOT / "locks").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "index-url" not in text
