from lnsub.report.figure import by_level, listed, nearest, percent


def test_the_nearest_sparsities_are_shown() -> None:
    assert nearest([0.0, 0.3, 0.49, 0.9], (0.5, 0.8)) == [0.49, 0.9]
    assert nearest([0.0, 0.6], (0.5, 0.8)) == [0.6]
    assert nearest([0.0], (0.5,)) == []


def test_words_are_put_together() -> None:
    assert [listed(["a", "b", "c"]), listed(["a"]), listed([])] == ["a, b and c", "a", ""]
    assert (
        by_level([("X", 0.5, "a"), ("X", 0.875, "b"), ("Y", 0.5, "c")])
        == "X a at 50\u00a0% and b at 87.5\u00a0%; Y c at 50\u00a0%"
    )
    assert [percent(0.1234), percent(-0.05), percent(-0.0001)] == ["12.3\u00a0%", "\u22125.0\u00a0%", "0.0\u00a0%"]
