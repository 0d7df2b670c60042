"""What is known of people: which fields hold it, encryption under a key for each person, and erasure by that key."""

from workhorse.privacy.classes import CARD, HEALTH, INTERNAL, PERSONAL, PUBLIC, SENSITIVE, DataClass
from workhorse.privacy.data_map import DataMap, Field, classes_of, view
from workhorse.privacy.keys import KeyWrapper, LocalKeys
from workhorse.privacy.sealing import BlindIndex, CannotOpen
from workhorse.privacy.subjects import Erased, Erasure, SubjectCipher, SubjectKeys

__all__ = [
    "CARD",
    "HEALTH",
    "INTERNAL",
    "PERSONAL",
    "PUBLIC",
    "SENSITIVE",
    "BlindIndex",
    "CannotOpen",
    "DataClass",
    "DataMap",
    "Erased",
    "Erasure",
    "Field",
    "KeyWrapper",
    "LocalKeys",
    "SubjectCipher",
    "SubjectKeys",
    "classes_of",
    "view",
]
