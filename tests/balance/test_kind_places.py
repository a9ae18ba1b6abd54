"""Places for kinds: bounded, with keys that all nodes share."""

from tierlb.balance.kind_counts import REST
from tierlb.balance.kind_places import ANSWER_FORMS, KIND_NUMBERS, MOST_KINDS, OTHER_KINDS, KindPlaces, stable_key


def full() -> KindPlaces:
    places = KindPlaces()
    for key in range(MOST_KINDS - 1):
        places.take(key)
    return places


def test_a_kind_keeps_the_number_that_it_took() -> None:
    places = KindPlaces()
    assert places.find("a") is None
    place = places.take("a")
    assert places.find("a") is place
    assert place.number % ANSWER_FORMS == 0
    assert OTHER_KINDS < place.number < KIND_NUMBERS


def test_more_kinds_than_places_share_a_number_until_rare_ones_are_freed() -> None:
    places, freed = full(), []
    places.on_freed = lambda: freed.append("freed")
    places.free_rare(lambda number: True)
    assert freed == [], "no kind waits for a place"
    assert places.take("waits").number == OTHER_KINDS
    lost, kept = places.find(0), places.find(1)
    assert lost is not None
    assert kept is not None
    number = lost.number
    places.free_rare(lambda each: each == number)
    assert (lost.number, places.find(0), places.find(1), freed) == (OTHER_KINDS, None, kept, ["freed"])
    assert places.take("waits").number == number


def test_keys_are_the_same_at_all_nodes_and_never_that_of_the_rest() -> None:
    keys = [stable_key(key, form) for key in (("GET", b"/x"), "a", 1) for form in range(ANSWER_FORMS)]
    assert len({*keys, REST}) == len(keys) + 1
    assert all(0 < key < 2**32 for key in keys)
    assert [key % ANSWER_FORMS for key in keys] == [0, 1] * 3
