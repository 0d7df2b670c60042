"""What is known of people: which fields hold it, encryption under a key for each person, and erasure by that key."""

from workhorse.privacy.classes import CARD, HEALTH, INTERNAL, PERSONAL, PUBLIC, SENSITIVE, Access, DataClass
from workhorse.privacy.consent import Consent, Purpose
from workhorse.privacy.data_map import DataMap, Field, classes_of, view
from workhorse.privacy.export import Draft, Entry, Export, TooMuch
from workhorse.privacy.export_page import export_page
from workhorse.privacy.key_services import AwsKms, KeyServiceUnavailable
from workhorse.privacy.keys import KeyWrapper, LocalKeys
from workhorse.privacy.map_page import map_page
from workhorse.privacy.places import Blank, Delete, Keep, Place
from workhorse.privacy.privacy import Privacy, Receipt
from workhorse.privacy.retention import Retention, forget_old
from workhorse.privacy.sealing import BlindIndex, CannotOpen
from workhorse.privacy.subjects import Erased, Erasure, SubjectCipher, SubjectKeys
from workhorse.privacy.visibility import Visibility
from workhorse.telemetry.cards import find_cards, mask_cards

__all__ = [
    "CARD",
    "HEALTH",
    "INTERNAL",
    "PERSONAL",
    "PUBLIC",
    "SENSITIVE",
    "Access",
    "AwsKms",
    "Blank",
    "BlindIndex",
    "CannotOpen",
    "Consent",
    "DataClass",
    "DataMap",
    "Delete",
    "Draft",
    "Entry",
    "Erased",
    "Erasure",
    "Export",
    "Field",
    "Keep",
    "KeyServiceUnavailable",
    "KeyWrapper",
    "LocalKeys",
    "Place",
    "Privacy",
    "Purpose",
    "Receipt",
    "Retention",
    "SubjectCipher",
    "SubjectKeys",
    "TooMuch",
    "Visibility",
    "classes_of",
    "export_page",
    "find_cards",
    "forget_old",
    "map_page",
    "mask_cards",
    "view",
]
