"""Excel's workbooks (.xlsx) as openpyxl reads them, cell by cell: ids stay what the sheet shows.

Excel keeps every number as a floating-point one of 15 digits. Whole numbers are read by their digits, with the leading
zeros that a format such as ``00000`` shows; what is shown otherwise, or has lost digits, is refused.
"""

import re
import zipfile
from collections.abc import Collection, Iterator
from typing import IO, Any

from vitrine.datasets.columns import Columns, TableFault, may_be_any_number

_MOST = 10**15
"""From here on, Excel has lost digits of a whole number."""
_ZEROS = re.compile("0+")


def is_workbook(file: IO[bytes]) -> bool:
    """Is the archive one of Excel's? The file is at its start afterwards."""
    try:
        with zipfile.ZipFile(file) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except zipfile.BadZipFile:
        return False
    finally:
        file.seek(0)


def rows(file: IO[bytes], columns: Columns, elsewhere: Collection[str]) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The row's number and its values by our names, of the one visible sheet that has the columns in its first row.

    Raises:
        TableFault: it cannot be read, no sheet or two have the columns, or a cell is no text or whole number.
    """
    import openpyxl  # here: no other table waits for it

    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except Exception as error:  # of its XML, its archive, and what it makes of them
        raise TableFault(f"its workbook cannot be read ({type(error).__name__}): save it again as .xlsx") from error
    try:
        sheet, places = _sheet(book, columns, elsewhere)
        for number, cells in enumerate(sheet.iter_rows(), 1):
            if number > 1:
                yield number, {name: _cell(cells, place, name, number) for name, place in places.items()}
    finally:
        book.close()


def _sheet(book: Any, columns: Columns, elsewhere: Collection[str]) -> tuple[Any, dict[str, int]]:
    good, faults = [], []
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        header = [str("" if value is None else value) for value in next(sheet.iter_rows(1, 1, values_only=True), ())]
        try:
            good.append((sheet, columns.places(header, elsewhere)))
        except TableFault as fault:
            faults.append(fault)
    if len(good) > 1:
        names = ", ".join(repr(sheet.title) for sheet, _ in good)
        raise TableFault(f"its sheets {names} all have the columns: save the one that is meant by itself")
    if not good:
        raise faults[0] if faults else TableFault("it has no visible sheet")
    return good[0]


def _cell(cells: tuple[Any, ...], place: int, column: str, number: int) -> str | None:
    if place >= len(cells):
        return None
    cell = cells[place]
    value = cell.value
    if value is None or (isinstance(value, str) and cell.data_type != "e"):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if may_be_any_number(column):
            return str(value)
        if value == int(value) and abs(value) < _MOST:
            zeros = _ZEROS.fullmatch(cell.number_format or "")
            return str(int(value)).zfill(len(zeros[0]) if zeros else 0)
    raise TableFault(
        f"row {number} has {str(value)[:40]!r} in {column}: it must be text, or a whole number of up to 15 digits: "
        "format the column as text"
    )
