"""The classes of data, from what everybody may see to what must not be kept at all.

class Patient(BaseModel):
    number: Annotated[str, INTERNAL]
    phone: Annotated[str, PERSONAL]
    diagnosis: Annotated[str, HEALTH]
"""

from enum import Enum, StrEnum
from typing import Final

__all__ = [
    "CARD",
    "HEALTH",
    "INTERNAL",
    "OF_PERSONS",
    "PERSONAL",
    "PUBLIC",
    "SENSITIVE",
    "STRICTNESS",
    "Access",
    "DataClass",
]


class DataClass(Enum):  # no StrEnum: SQLAlchemy takes a text in an annotation for code
    """What a field holds. A member stands in the `Annotated` type of the field."""

    PUBLIC = "public"
    """Everybody may know it."""
    INTERNAL = "internal"
    """It is of no person: a number, a time, a state."""
    PERSONAL = "personal"
    """It is about a person who can be identified (GDPR, article 4, 1)."""
    SENSITIVE = "sensitive"
    """A special category: belief, origin, union, biometrics, sex life (GDPR, article 9)."""
    HEALTH = "health"
    """Of a person's health (GDPR, article 9; HIPAA's protected health information)."""
    CARD = "card"
    """The number of a payment card, which is not kept (PCI DSS 4.0.1, requirement 3)."""


PUBLIC: Final = DataClass.PUBLIC
INTERNAL: Final = DataClass.INTERNAL
PERSONAL: Final = DataClass.PERSONAL
SENSITIVE: Final = DataClass.SENSITIVE
HEALTH: Final = DataClass.HEALTH
CARD: Final = DataClass.CARD

OF_PERSONS: Final = frozenset((PERSONAL, SENSITIVE, HEALTH))
"""What is about people: sealed in events, masked in logs, not taken as a job's argument."""

STRICTNESS: Final = (PUBLIC, INTERNAL, PERSONAL, SENSITIVE, HEALTH, CARD)
"""The classes, from the mildest to the strictest: where two are said of one name, the stricter holds."""


class Access(StrEnum):
    """What a caller may do with what is of a class."""

    ALLOW = "allow"
    """Read it."""
    MASK = "mask"
    """See that there is such a column: every value is null."""
    REFUSE = "refuse"
    """Not run a query that returns it."""
