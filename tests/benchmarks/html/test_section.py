"""Templates are filled with whatever data contain."""

from benchmarks.html.section import filled


def test_data_that_name_another_part_are_left_as_they_are() -> None:
    page = filled("page.html", {"style": "", "data": "{{library}}", "library": "code", "script": "{{data}}"})
    assert 'id="data">{{library}}</script>' in page
    assert "<script>code</script>\n<script>{{data}}</script>" in page
