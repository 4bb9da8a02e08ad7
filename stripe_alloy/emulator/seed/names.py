"""Fictional names and places; the domains are example.com."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A place where customers live, with its currency."""

    country: str
    currency: str
    locale: str
    dial: str
    cities: tuple[tuple[str, str], ...]  # city, postal code
    streets: tuple[str, ...]


GIVEN = (
    "Ada", "Bruno", "Carla", "Dario", "Edda", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaori",
    "Liam", "Mara", "Nils", "Olga", "Pablo", "Quinn", "Rosa", "Stefan", "Tamar", "Ulla", "Victor",
    "Wanda", "Ximena", "Yuki", "Zoran",
)  # fmt: skip
FAMILY = (
    "Abbott", "Becker", "Cardoso", "Dufour", "Eriksen", "Fischer", "Garcia", "Hayashi", "Ivanov",
    "Jensen", "Kowalski", "Laurent", "Moreau", "Nakata", "O'Brien", "Petrov", "Quist", "Rossi",
    "Sørensen", "Tanaka", "Ueda", "Vogel", "Wolff", "Yamada", "Zielinski", "Müller",
)  # fmt: skip
FIRMS = ("Labs", "Studio", "& Sons", "Works", "Optics", "Foundry", "Analytics", "Supply")
PLACES = (
    (
        Place(
            "US", "usd", "en-US", "+1555",
            (("Portland", "97201"), ("Austin", "73301"), ("Denver", "80014"), ("Boston", "02101")),
            ("Maple St", "Oak Ave", "Mill Rd", "Harbor Blvd"),
        ),
        50,
    ),
    (
        Place(
            "DE", "eur", "de-DE", "+4930",
            (("Berlin", "10115"), ("Hamburg", "20095"), ("Köln", "50667")),
            ("Lindenstraße", "Gartenweg", "Am Markt"),
        ),
        14,
    ),
    (
        Place(
            "FR", "eur", "fr-FR", "+331",
            (("Paris", "75001"), ("Lyon", "69001"), ("Nantes", "44000")),
            ("rue des Lilas", "avenue Victor", "quai du Port"),
        ),
        11,
    ),
    (
        Place(
            "GB", "gbp", "en-GB", "+4420",
            (("London", "E1 6AN"), ("Leeds", "LS1 1UR"), ("Bath", "BA1 1AA")),
            ("High Street", "Station Road", "Church Lane"),
        ),
        15,
    ),
    (
        Place(
            "JP", "jpy", "ja-JP", "+813",
            (("Tokyo", "100-0001"), ("Osaka", "530-0001"), ("Kyoto", "600-8216")),
            ("Chuo-dori", "Sakura-dori", "Minato-machi"),
        ),
        10,
    ),
)  # fmt: skip
BRANDS = ((("visa", "4242"), 50), (("mastercard", "4444"), 30), (("amex", "8431"), 12),
          (("discover", "9424"), 5), (("jcb", "0505"), 3))  # fmt: skip
DECLINES = (
    ("insufficient_funds", 50), ("generic_decline", 30), ("expired_card", 15), ("lost_card", 5),
)  # fmt: skip
REFUND_REASONS = (("requested_by_customer", 70), ("duplicate", 20), (None, 10))
DISPUTE_REASONS = (("fraudulent", 50), ("product_not_received", 30), ("subscription_canceled", 20))
