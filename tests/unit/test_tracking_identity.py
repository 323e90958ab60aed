"""Gallery, matching with a margin, assignment and sides."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualface_client.settings.tracking import IdentitySettings, SideSettings
from dualface_client.tracking.assignment import best_pairs
from dualface_client.tracking.gallery import Gallery, Identity, normalised
from dualface_client.tracking.identity import IdentityBook
from dualface_client.tracking.pins import Pin, PinBook
from dualface_client.tracking.sides import SideBook
from dualface_client.types import FloatArray, Side

BOX = (0.0, 0.0, 100.0, 100.0)


def unit(*values: float) -> FloatArray:
    vector = np.array(values, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


#: Two people, and mixtures of them; cosines: ann-bob 0.28.
ANN = unit(1.0, 0.0)
BOB = unit(0.28, 0.96)


def between(share: float) -> FloatArray:
    """0 is Ann, 1 is Bob."""
    return unit(*((1 - share) * ANN + share * BOB).tolist())


def make_book(**changes: float) -> tuple[IdentityBook, Identity, Identity]:
    book = IdentityBook(IdentitySettings(**changes))  # type: ignore[arg-type]  # floats of fields
    book.use_version("1")
    ann, bob = book.create(BOX, 0.0), book.create(BOX, 0.0)
    book.enrol(ann, ANN, 0.9, 0.0)
    book.enrol(bob, BOB, 0.9, 0.0)
    return book, ann, bob


def judged(book: IdentityBook, faces: list[FloatArray], links: list[int]) -> list[int]:
    return [verdict.identity for verdict in book.judge(np.array(faces), links)]


def test_known_faces_are_found_again() -> None:
    book, ann, bob = make_book()
    verdicts = book.judge(np.array([BOB, ANN]), [0, 0])
    assert [verdict.identity for verdict in verdicts] == [bob.id, ann.id]
    assert all(verdict.decided and verdict.changes for verdict in verdicts)


def test_a_swap_is_seen() -> None:
    book, ann, bob = make_book()
    verdicts = book.judge(np.array([BOB, ANN]), [ann.id, bob.id])
    assert [verdict.identity for verdict in verdicts] == [bob.id, ann.id]
    assert all(verdict.changes for verdict in verdicts)


def test_right_links_are_confirmed() -> None:
    book, ann, bob = make_book()
    verdicts = book.judge(np.array([ANN, BOB]), [ann.id, bob.id])
    assert all(verdict.decided and not verdict.changes for verdict in verdicts)


def test_within_the_margin_nothing_changes() -> None:
    book, ann, bob = make_book(margin=0.05)
    (verdict,) = book.judge(np.array([between(0.52)]), [ann.id])
    assert (verdict.identity, verdict.decided, verdict.changes) == (ann.id, False, False)
    assert judged(book, [between(0.51), between(0.49)], [ann.id, bob.id]) == [ann.id, bob.id]


def test_a_stranger_is_nobody_and_two_faces_are_never_one_person() -> None:
    book, ann, _ = make_book()
    (verdict,) = book.judge(np.array([unit(-1.0, 0.2)]), [0])
    assert (verdict.identity, verdict.decided) == (0, True)
    found = judged(book, [ANN, ANN], [0, 0])
    assert sorted(found) == [0, ann.id]


def test_a_face_of_someone_not_enrolled_stays_unless_it_is_clearly_another() -> None:
    book, ann, _ = make_book()
    new = book.create(BOX, 1.0)
    assert judged(book, [unit(0.0, -1.0)], [new.id]) == [new.id]
    assert judged(book, [ANN], [new.id]) == [ann.id]


def test_another_model_version_empties_the_galleries() -> None:
    book, ann, _ = make_book()
    book.use_version("2")
    assert len(ann.gallery) == 0
    assert judged(book, [BOB], [ann.id]) == [ann.id]


def test_the_gallery_keeps_few_good_and_different_pictures() -> None:
    gallery = Gallery(size=2, duplicate_cosine=0.95)
    gallery.add(ANN, 0.5)
    gallery.add(between(0.02), 0.9)
    assert len(gallery) == 1
    gallery.add(BOB, 0.6)
    gallery.add(unit(0.0, 1.0), 0.55)
    assert len(gallery) == 2
    assert gallery.similarity(BOB) == pytest.approx(1.0)
    gallery.add(unit(0.0, 1.0), 0.7)
    assert gallery.similarity(unit(0.0, 1.0)) == pytest.approx(1.0)
    gallery.clear()
    assert gallery.similarity(ANN) == -1.0


def test_people_beyond_the_limit_are_forgotten_but_ids_go_on() -> None:
    book = IdentityBook(IdentitySettings(identity_limit=3))
    for weight in (5.0, 0.1, 3.0, 2.0):
        book.create(BOX, 0.0).weight = weight
    book.forget(keep={2})
    assert sorted(book.people) == [1, 2, 3]
    assert book.create(BOX, 0.0).id == 5


def test_vectors_are_normalised_and_zero_does_no_harm() -> None:
    lengths = np.linalg.norm(normalised(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)), axis=1)
    assert lengths.tolist() == pytest.approx([1.0, 0.0])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_assignment_is_the_best_of_all(rows: int, columns: int, seed: int) -> None:
    gains = np.random.default_rng(seed).random((rows, columns))
    pairs = best_pairs(gains.tolist())
    assert len(pairs) == min(rows, columns)
    assert len({column for _, column in pairs}) == len(pairs)
    wide = gains if rows <= columns else gains.T
    best = max(
        (
            sum(wide[row, column] for row, column in enumerate(order))
            for order in permutations(range(wide.shape[1]), wide.shape[0])
        ),
        default=0.0,
    )
    assert sum(gains[row, column] for row, column in pairs) == pytest.approx(best)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3), (2, 5), (6, 4)])
def test_on_a_tie_each_row_keeps_its_own_column(rows: int, columns: int) -> None:
    same = [(row, row) for row in range(min(rows, columns))]
    assert best_pairs([[0.5] * columns for _ in range(rows)]) == same


def person(key: int, x_px: float, weight: float = 1.0, visible_s: float = 10.0) -> Identity:
    gallery = Gallery(1, 1.0)
    return Identity(key, gallery, 0.0, BOX, visible_s=visible_s, weight=weight, x_px=x_px)


def test_sides_turn_while_tentative_only_beyond_the_hysteresis() -> None:
    sides = SideBook(1000, SideSettings(settle_s=0.5, hysteresis=0.05))
    ann, bob = person(1, 400), person(2, 440)
    people = {1: ann, 2: bob}
    sides.update(people, people, 0.0)
    assert sides.holder(Side.LEFT) == 1
    ann.x_px = 460
    sides.update(people, people, 0.1)
    assert sides.holder(Side.LEFT) == 1
    ann.x_px = 500
    sides.update(people, people, 0.2)
    assert sides.holder(Side.LEFT) == 2
    ann.x_px = 100
    sides.update(people, people, 0.6)
    assert sides.holder(Side.LEFT) == 2


def test_of_three_people_the_two_most_established_sit() -> None:
    sides = SideBook(1000)
    people = {1: person(1, 100, 0.1), 2: person(2, 500), 3: person(3, 900)}
    sides.update(people, people, 0.0)
    assert (sides.holder(Side.LEFT), sides.holder(Side.RIGHT)) == (2, 3)


@pytest.mark.parametrize(
    ("visible_s", "waited_s"), [(0.1, 2.0), (1.5, 3.0), (3.0, 6.0), (5.0, 10.0), (60.0, 10.0)]
)
def test_a_side_is_kept_for_as_long_as_its_person_has_earned(
    visible_s: float, waited_s: float
) -> None:
    rules = SideSettings(forget_s=10.0, forget_ratio=2.0, forget_least_s=2.0)
    for away_s, holder in ((waited_s - 0.1, 2), (waited_s + 0.1, 3)):
        sides = SideBook(1000, rules)
        people = {1: person(1, 200), 2: person(2, 800, visible_s=visible_s)}
        sides.update(people, people, 0.0)
        people[3] = person(3, 700)
        sides.update(people, [1, 3], away_s)
        assert sides.holder(Side.RIGHT) == holder


def test_two_latecomers_are_placed_together() -> None:
    sides = SideBook(1000)
    people = {1: person(1, 700)}
    sides.update({}, [], 0.0)
    sides.update(people, people, 3.0)
    sides.update(people, people, 3.6)
    assert sides.holder(Side.RIGHT) == 1
    people[2] = person(2, 900)
    sides.update(people, people, 4.0)
    assert (sides.holder(Side.LEFT), sides.holder(Side.RIGHT)) == (1, 2)


def test_who_leaves_gets_no_side_back_by_a_pin() -> None:
    sides = SideBook(1000)
    people = {1: person(1, 200), 2: person(2, 800)}
    sides.update(people, people, 0.0)
    sides.pin({Side.LEFT: 2}, 0.1)
    sides.leave(2, 1, 0.2)
    assert (sides.holder(Side.LEFT), sides.pinned) == (0, set())
    del people[2]
    sides.update(people, people, 0.2)
    assert sides.holders == {1}


def test_of_two_tiles_that_one_person_was_given_under_two_numbers_one_is_free_again() -> None:
    sides = SideBook(1000)
    people = {1: person(1, 200), 2: person(2, 800)}
    sides.update(people, people, 0.0)
    sides.hold(Side.RIGHT, 1, 0.1)
    sides.hold(Side.LEFT, 2, 0.1)
    del people[2]
    sides.leave(2, 1, 0.2)
    assert (sides.holder(Side.LEFT), sides.holder(Side.RIGHT)) == (0, 1)
    people[3] = person(3, 700)
    sides.update(people, people, 9.0)
    assert sides.holder(Side.LEFT) == 3


def test_a_pin_that_meant_somebody_who_is_gone_means_nobody_or_another_one() -> None:
    book, ann, bob = make_book()
    pins = PinBook([Pin(Side.LEFT, "bob.jpg", BOB, "1")], IdentitySettings())
    assert pins.match(book.people, "1") == {Side.LEFT: bob.id}
    book.drop(bob.id)
    assert pins.match(book.people, "1") == {}
    assert pins.is_open
    ann.gallery.add(BOB, 1.0)
    assert pins.match(book.people, "1") == {Side.LEFT: ann.id}


def test_of_two_pins_of_one_person_a_note_says_who_has_the_other_side() -> None:
    book, _ann, bob = make_book()
    like_bob = (BOB + 0.2 * ANN) / np.linalg.norm(BOB + 0.2 * ANN)
    both = [Pin(Side.LEFT, "bob.jpg", BOB, "1"), Pin(Side.RIGHT, "bob2.jpg", like_bob, "1")]
    pins = PinBook(both, IdentitySettings())
    assert pins.match(book.people, "1") == {Side.LEFT: bob.id}
    left, right = pins.notes
    assert left.startswith(f"--pin left=bob.jpg: is person {bob.id} (likeness 1.00;")
    assert right == (
        f"--pin right=bob2.jpg was ignored: its person, {bob.id}, has the left side by the other "
        "pin (likeness 0.98; from 0.52 on it counts), and nobody has both sides"
    )


def test_a_pin_of_the_other_side_still_knows_how_much_its_person_is_alike() -> None:
    book, _ann, bob = make_book()
    pins = PinBook([Pin(Side.LEFT, "bob.jpg", BOB, "1")], IdentitySettings())
    pins.match(book.people, "1")
    pins.swap()
    (note,) = pins.notes
    assert note.startswith(f"--pin right=bob.jpg: is person {bob.id} (likeness 1.00;")
