"""Tables as spreadsheets and archives write them: read as meant, or refused with the row and the remedy."""

from __future__ import annotations

import datetime
from pathlib import Path

import openpyxl
import pytest

from medsharp.errors import InputError
from medsharp.tables import clean, has_columns, number, read_table, reason

NEEDED = ("image", "label")
REMARK = "image,label,remark\na.png,benign,Zyste rechts außen\n"


def rows_of(path: Path) -> list[tuple[int, dict[str, str]]]:
    return list(read_table(path, NEEDED).records())


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_unicode_encoding_gives_the_same_cells_without_a_note(tmp_path: Path, encoding: str) -> None:
    read = read_table(written(tmp_path, REMARK.encode(encoding)), NEEDED)
    assert list(read.records()) == [(2, {"image": "a.png", "label": "benign", "remark": "Zyste rechts außen"})]
    assert read.notes == ()


@pytest.mark.parametrize(
    ("encoding", "title"),
    [("cp1252", "Windows-1252"), ("mac_roman", "Mac OS Roman"), ("cp850", "DOS code page 850")],
)
@pytest.mark.parametrize("remark", ["Zyste rechts außen für Müller", "à côté, très élargi", "nódulo hipoecóico; mamá"])
def test_western_code_page_is_read_and_announced_with_what_it_gives(
    tmp_path: Path, encoding: str, title: str, remark: str
) -> None:
    read = read_table(written(tmp_path, f'image,label,remark\na.png,b,"{remark}"\n'.encode(encoding)), NEEDED)
    assert read.frame.at[2, "remark"] == remark
    assert len(read.notes) == 1
    assert read.notes[0].startswith(f"t.csv is not in UTF-8; it is read as {title}, which gives '")


def test_note_on_a_code_page_shows_letters_and_no_name(tmp_path: Path) -> None:
    (note,) = read_table(written(tmp_path, "image,label,name\na.png,b,Müller-Weiß\n".encode("cp1252")), NEEDED).notes
    assert "which gives 'ü', 'ß'. Save" in note
    assert "ller" not in note


@pytest.mark.parametrize(("text", "encoding"), [("Киста", "cp1251"), ("囊肿", "gb18030"), ("żółty", "cp1250")])
def test_other_code_pages_are_refused_with_the_remedy(tmp_path: Path, text: str, encoding: str) -> None:
    path = written(tmp_path, f"image,label,remark\na.png,b,{text}\n".encode(encoding))
    with pytest.raises(InputError, match=r"t\.csv is neither in UTF-8 nor .*; save it as 'CSV UTF-8'"):
        read_table(path, NEEDED)


@pytest.mark.parametrize("separator", list(",;\t|"))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_told_quoted_ones_are_text(tmp_path: Path, separator: str, end: str) -> None:
    quoted = f'"with {separator} and{end}two lines and ""marks"""'
    lines = [separator.join(["image", "label", "note"]), separator.join(["a.png", "b", quoted])]
    (row,) = rows_of(written(tmp_path, end.join(lines) + end))
    assert row[1]["note"].replace("\r", "\n").split("\n")[0] == f"with {separator} and"
    assert row[1]["note"].endswith('two lines and "marks"')


def test_a_semicolon_table_with_commas_in_its_header_is_told_by_the_columns_it_needs(tmp_path: Path) -> None:
    path = written(tmp_path, "image;label;size (a, b, c, d)\nx.png;benign;1,2,3,4\n")
    assert rows_of(path) == [(2, {"image": "x.png", "label": "benign", "size (a, b, c, d)": "1,2,3,4"})]


def test_line_that_names_the_separator_is_no_row(tmp_path: Path) -> None:
    assert rows_of(written(tmp_path, "sep=;\r\nimage;label\r\na;b\r\n")) == [(3, {"image": "a", "label": "b"})]


def test_rows_are_numbered_as_a_spreadsheet_does_blank_ones_and_titles_too(tmp_path: Path) -> None:
    path = written(tmp_path, 'Export of 2024\n\nimage,label,n\na,b,"1\n2"\n,,\n\nc,d,\n')
    assert [line for line, _ in rows_of(path)] == [4, 7]


def test_cells_are_cleaned_of_blanks_marks_and_invisible_signs_and_composed(tmp_path: Path) -> None:
    path = written(tmp_path, " Image ,\ufeffLABEL\u00a0\n\u00a0a.png \u200b, be\u200bnign\t\nu\u0308.png,x\n")
    assert [row for _, row in rows_of(path)] == [
        {"image": "a.png", "label": "benign"},
        {"image": "\u00fc.png", "label": "x"},
    ]


def test_empty_columns_go_and_a_nameless_one_with_values_is_announced(tmp_path: Path) -> None:
    assert rows_of(written(tmp_path, "image,label,,\na,b,,\nc,d\n")) == [
        (2, {"image": "a", "label": "b"}),
        (3, {"image": "c", "label": "d"}),
    ]
    read = read_table(written(tmp_path, ",image,label\n0,a,b\n"), NEEDED)
    assert list(read.frame) == ["image", "label"]
    assert read.notes == ("t.csv: column 1 has no name and is not read",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,label,Label\na,b,c\n", r"same column twice in its header: 'label' and 'Label'|'label' and 'label'"),
        ("image,label\na,b,c\n", "row 2: 3 values for 2 columns"),
        ("image,label\n\n\na\n", "row 4: 1 values for 2 columns"),
        ('image,label\na,"b\n', r"row 2 is not a row of a CSV table .*; check its quotation marks"),
        ('image,label\n"a"x,b\n', "row 2 is not a row of a CSV table"),
        ("", "is empty"),
        (",,\n\n", "is empty"),
        ("imag,label\na,b\n", "no column 'image'; did you mean imag"),
        (b"image,label\n\0\0\0\0\0,b\n", "zero bytes"),
        (b"\xff\xfei\0m", "is not text in UTF-16, as its first bytes say"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"Excel 97 or encrypted; save it as \.xlsx"),
        (b"PK\x03\x04nonsense", "is not an Excel workbook that can be read"),
    ],
)
def test_what_cannot_be_read_is_a_sentence_with_file_and_row(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=words) as caught:
        read_table(path, NEEDED)
    assert "t.csv" in str(caught.value)
    assert not has_columns(path, NEEDED)


def test_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        read_table(tmp_path / "t.csv")


def workbook(path: Path, rows: list[list[object]], merge: str = "") -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in rows:
        sheet.append(row)
    if merge:
        sheet.merge_cells(merge)
    book.save(path)
    return path


def test_workbook_gives_numbers_dates_and_flags_as_people_write_them(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 3, 1)
    path = workbook(
        tmp_path / "t.xlsx",
        [
            ["image", "label", "p", "d", "f", "x"],
            [],
            ["a", "b", 7.0, day, False, 0.25],
            ["c", "d", 7, None, True, 1e-3],
        ],
    )
    assert rows_of(path) == [
        (3, {"image": "a", "label": "b", "p": "7", "d": "2024-03-01", "f": "FALSE", "x": "0.25"}),
        (4, {"image": "c", "label": "d", "p": "7", "d": "", "f": "TRUE", "x": "0.001"}),
    ]


def test_merged_cells_of_a_workbook_count_for_each_of_their_rows(tmp_path: Path) -> None:
    rows: list[list[object]] = [["image", "label", "patient"], ["a", "b", 1], ["c", "d", None], ["e", "f", 2]]
    path = workbook(tmp_path / "t.xlsx", rows, "C2:C3")
    assert [row["patient"] for _, row in rows_of(path)] == ["1", "1", "2"]


def test_formula_whose_value_was_never_computed_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["image", "label"], ["a", "=UPPER(A2)"]])
    with pytest.raises(InputError, match=r"sheet 'Sheet': cell B2 is a formula without its value"):
        read_table(path, NEEDED)


def test_damaged_workbook_is_a_sentence_wherever_it_is_damaged(tmp_path: Path) -> None:
    data = workbook(tmp_path / "t.xlsx", [["image", "label"], *([f"{n}.png", "b"] for n in range(50))]).read_bytes()
    for place in range(30, len(data), 97):
        (tmp_path / "t.xlsx").write_bytes(data[:place] + bytes(8) + data[place + 8 :])
        try:
            read_table(tmp_path / "t.xlsx", NEEDED)  # padding may be damaged without harm
        except InputError as error:
            assert "t.xlsx" in str(error)  # noqa: PT017


def test_workbook_that_unpacks_to_very_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workbook(tmp_path / "t.xlsx", [["image", "label"], ["a", "b"]])
    monkeypatch.setattr("medsharp.tables.workbook._MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"unpacks to .* GiB; save the sheet as 'CSV UTF-8'"):
        read_table(path, NEEDED)


def test_merged_cells_beyond_the_last_row_make_no_rows(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["image", "label", "site"], ["a", "b", "A"], ["c", "d", None]], "C2:C9")
    assert [row["site"] for _, row in rows_of(path)] == ["A", "A"]


def book_of(path: Path, *sheets: tuple[str, str, list[list[str]]]) -> Path:
    """Sheets by title, state and rows."""
    book = openpyxl.Workbook()
    book.active.title = "readme"
    book.active.append(["about", "this"])
    for title, state, rows in sheets:
        sheet = book.create_sheet(title)
        sheet.sheet_state = state
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def sheet_of(image: str) -> list[list[str]]:
    return [["image", "label"], [image, "b"]]


def test_the_sheet_with_the_columns_is_read_and_hidden_ones_are_named(tmp_path: Path) -> None:
    path = book_of(tmp_path / "t.xlsx", ("one", "hidden", sheet_of("x")), ("two", "visible", sheet_of("y")))
    read = read_table(path, NEEDED)
    assert list(read.frame["image"]) == ["y"]
    assert read.notes == ("t.xlsx: hidden sheet 'one' is not read",)
    path = book_of(tmp_path / "t.xlsx", *((name, "hidden", sheet_of("x")) for name in "ab"), ("c", "hidden", []))
    with pytest.raises(InputError, match=r"has no column 'image'.*; hidden sheets 'a', 'b' are not read"):
        read_table(path, NEEDED)


def test_two_sheets_with_the_columns_are_refused(tmp_path: Path) -> None:
    titled = [["Corrected"], [], ["Remark", "LABEL", "Image"], ["", "b", "y"]]
    path = book_of(tmp_path / "t.xlsx", ("one", "visible", sheet_of("x")), ("two", "visible", titled))
    with pytest.raises(InputError, match=r"t\.xlsx: sheets 'one', 'two' have the columns of one table.*or hide"):
        read_table(path, NEEDED)
    path = book_of(tmp_path / "t.xlsx", ("one", "visible", [["image", "label"]]), ("two", "visible", titled))
    assert list(read_table(path, NEEDED).records()) == [(4, {"Remark": "", "label": "b", "image": "y"})]


def test_of_sheets_without_rows_none_is_refused_for_another(tmp_path: Path) -> None:
    empty = [["image", "label"]]
    path = book_of(tmp_path / "t.xlsx", ("one", "visible", empty), ("two", "visible", empty))
    assert read_table(path, NEEDED).frame.empty


def test_a_formula_without_a_value_on_a_hidden_sheet_hinders_nobody(tmp_path: Path) -> None:
    formula = [["image", "label"], ["a", "=UPPER(A2)"]]
    path = book_of(tmp_path / "t.xlsx", ("sums", "hidden", formula), ("list", "visible", sheet_of("x")))
    assert list(read_table(path, NEEDED).frame["image"]) == ["x"]


@pytest.mark.parametrize(
    ("text", "people"), [("7.0", "7"), ("7", "7"), ("-3.00", "-3"), ("7.5", "7.5"), ("a.0", "a.0")]
)
def test_number_is_as_people_write_it(text: str, people: str) -> None:
    assert number(text) == people


@pytest.mark.parametrize("text", ["", "0", "0.0", "0,0", "FALSE", "no", "Nein", "FALSCH", "faux", "-", "n/a"])
def test_cell_that_says_no_is_no_reason(text: str) -> None:
    assert reason(text, "plain") == ""


@pytest.mark.parametrize("text", ["1", "1.0", "1,0", "TRUE", "yes", "x", "WAHR", "oui"])
def test_cell_that_says_yes_is_the_plain_reason(text: str) -> None:
    assert reason(text, "plain") == "plain"
    assert reason("no probe", "plain") == "no probe"


@pytest.mark.parametrize(
    ("cell", "text"),
    [('="007"', "007"), ("'007", "007"), ('="a b "', "a b"), ("'t Hooft", "'t Hooft"), ("'7' and '8'", "'7' and '8'")],
)
def test_marks_that_make_digits_text_are_no_part_of_them(cell: str, text: str) -> None:
    assert clean(cell) == text


def test_line_breaks_and_runs_of_blanks_inside_a_heading_are_one_blank(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('image,"BI-RADS\n reader\t1","a  b"\n1.png,"4\nb",x\n')
    table = read_table(path, ["image"])
    assert list(table.frame) == ["image", "BI-RADS reader 1", "a b"]
    assert table.frame.iloc[0].tolist() == ["1.png", "4\nb", "x"]
    path.write_text('image,"a\nb",a b\n1.png,1,2\n')
    with pytest.raises(InputError, match="the same column twice"):
        read_table(path)
