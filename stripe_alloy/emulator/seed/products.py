"""The products of the business, and prices in four currencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import catalog

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


CURRENCIES = ("usd", "eur", "gbp", "jpy")
_RATES = {"usd": 100, "eur": 92, "gbp": 79, "jpy": 150}  # minor units by a dollar
_YEAR_IN_MONTHS = 10


class Good(NamedTuple):
    """A product and its monthly price in dollars; a year costs ten times that."""

    name: str
    description: str
    dollars: int
    intervals: tuple[str, ...]
    unit: str | None = None


PLANS = (
    Good("Starter", "For one instrument", 12, ("month", "year")),
    Good("Team", "Shared benches, five seats", 49, ("month", "year"), "seat"),
    Good("Laboratory", "Unlimited benches and audit log", 199, ("month", "year"), "seat"),
)
EXTRAS = (
    Good("Archive storage", "A terabyte, kept for ten years", 9, ("month",), "TB"),
    Good("Priority support", "An answer within the hour", 79, ("month",)),
)
ONCE = (
    Good("Calibration kit", "Reference weights and certificate", 140, ()),
    Good("On-site training", "A day at your bench", 900, ()),
    Good("Sensor probe", "Replacement probe", 65, ()),
)
TIERS = (
    {"flat_amount": None, "unit_amount": 200, "up_to": 10},
    {"flat_amount": None, "unit_amount": 150, "up_to": 100},
    {"flat_amount": 500, "unit_amount": 100, "up_to": None},
)


class Catalog:
    """The prices by purpose."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.plans: dict[tuple[str, str], list[JSON]] = {}  # (currency, interval)
        self.extras: dict[str, list[JSON]] = {}
        self.once: dict[str, list[JSON]] = {}
        self.old: dict[str, JSON] = {}
        self.tiered: JSON = {}
        self.metered: JSON = {}

    def open(self, currencies: tuple[str, ...]) -> None:
        """Create all products and prices."""
        for good in PLANS:
            product = self._product(good)
            for currency in currencies:
                for interval in good.intervals:
                    price = self._price(product, good, currency, interval)
                    self.plans.setdefault((currency, interval), []).append(price)
        self._minor(EXTRAS, self.extras, currencies[:2], "month")
        self._minor(ONCE, self.once, currencies[:1], None)
        self._specials(currencies[0])

    def _minor(
        self,
        goods: tuple[Good, ...],
        shelf: dict[str, list[JSON]],
        currencies: tuple[str, ...],
        interval: str | None,
    ) -> None:
        for good in goods:
            product = self._product(good)
            for currency in currencies:
                price = self._price(product, good, currency, interval)
                shelf.setdefault(currency, []).append(price)

    def _product(self, good: Good) -> JSON:
        self._session.now += 60
        return catalog.create_product(
            self._session,
            name=good.name,
            description=good.description,
            unit_label=good.unit,
            metadata={"sku": good.name.lower().replace(" ", "-")},
            tax_code="txcd_10103001",
            url=f"https://example.com/{good.name.lower().replace(' ', '-')}",
        )

    def _price(self, product: JSON, good: Good, currency: str, interval: str | None) -> JSON:
        months = _YEAR_IN_MONTHS if interval == "year" else 1
        amount = good.dollars * months * _RATES[currency]
        name = f"{good.name.lower().replace(' ', '_')}_{currency}_{interval or 'once'}"
        price = catalog.create_price(
            self._session,
            currency=currency,
            lookup_key=name,
            nickname=f"{good.name} {interval or 'once'}",
            product=product["id"],
            recurring={"interval": interval} if interval else None,
            tax_behavior="exclusive",
            unit_amount=amount,
            unit_amount_decimal=str(amount),
            private_fields={"currency_options": {currency: _option(amount)}},
        )
        if product["default_price"] is None:
            catalog.touch_product(self._session, product, default_price=price["id"])
        return price

    def _specials(self, currency: str) -> None:
        usage = self._product(Good("Measurements", "By the thousand readings", 0, (), "reading"))
        common = {"currency": currency, "product": usage["id"]}
        tiers = [{**tier, **_decimals(tier)} for tier in TIERS]
        self.tiered = catalog.create_price(
            self._session,
            **common,
            billing_scheme="tiered",
            tiers_mode="graduated",
            nickname="Readings by volume",
            recurring={"interval": "month"},
            private_fields={"tiers": tiers},
        )
        self.metered = catalog.create_price(
            self._session,
            **common,
            unit_amount_decimal="0.0125",
            nickname="Pay as you go",
            recurring={"interval": "month", "usage_type": "metered"},
        )
        self._retired(currency)

    def _retired(self, currency: str) -> None:
        retired = self._product(Good("Classic", "The plan of the early days", 8, (), None))
        for dollars in (8, 7):
            good = Good("Classic", "", dollars, ("month",))
            price = self._price(retired, good, currency, "month")
            self._session.change(price, lookup_key=f"classic_{dollars}", active=dollars == 8)
            self.old[str(dollars)] = price
        self._session.change(retired, default_price=None)  # Stripe archives no default price

    def archive(self) -> None:
        """Archive the old plan; its subscribers keep it."""
        price = self.old["8"]
        self._session.change(price, active=False)
        self._session.emit("price.updated", price)
        catalog.spread(self._session, price)


def _option(amount: int) -> JSON:
    return {
        "custom_unit_amount": None,
        "tax_behavior": "exclusive",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }


def _decimals(tier: JSON) -> JSON:
    names = ("flat_amount", "unit_amount")
    return {f"{n}_decimal": None if tier[n] is None else str(tier[n]) for n in names}
